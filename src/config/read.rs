//! The values of a configuration out of TOML's own: each says at its place what was expected.

use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};
use toml::Spanned;

/// Where a mistake stands, in bytes, and what was expected there.
pub type Mistake = (Range<usize>, String);

/// What a value of the file can be read as.
pub trait FromToml: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// The first mistake in it.
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Mistake>;
}

/// A table, whose keys are read one by one. That it has no others is for `keys::check`.
pub struct Table<'a> {
    keys: &'a DeTable<'a>,
    span: Range<usize>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub fn top(file: &'a Spanned<DeTable<'a>>) -> Table<'a> {
        Table {
            keys: file.get_ref(),
            span: file.span(),
        }
    }

    /// A value that is to be a table.
    ///
    /// # Errors
    /// It is something else.
    pub fn of(value: &'a Spanned<DeValue<'a>>) -> Result<Table<'a>, Mistake> {
        let keys = value.get_ref().as_table().ok_or_else(|| {
            let message = format!("expected a table instead of this {}", kind(value));
            (value.span(), message)
        })?;
        Ok(Table {
            keys,
            span: value.span(),
        })
    }

    /// The value of a key that may be missing.
    ///
    /// # Errors
    /// The mistake in the value.
    pub fn optional<T: FromToml>(&self, key: &str) -> Result<Option<T>, Mistake> {
        self.keys.get(key).map(T::from_toml).transpose()
    }

    /// The value of a key, or its type's default.
    ///
    /// # Errors
    /// The mistake in the value.
    pub fn default<T: FromToml + Default>(&self, key: &str) -> Result<T, Mistake> {
        Ok(self.optional(key)?.unwrap_or_default())
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// The mistake in the value, or the table when the key is missing.
    pub fn required<T: FromToml>(&self, key: &str) -> Result<T, Mistake> {
        self.optional(key)?
            .ok_or_else(|| (self.span.clone(), format!("missing field `{key}`")))
    }
}

/// What the file has in place of something else. Its text is not shown: it may be a password.
fn kind(value: &Spanned<DeValue<'_>>) -> &'static str {
    value.get_ref().type_str()
}

/// The mistake of a value that is not `expected`.
pub fn mistake(value: &Spanned<DeValue<'_>>, expected: &str) -> Mistake {
    (value.span(), format!("expected {expected}"))
}

/// A string.
///
/// # Errors
/// It is something else.
pub fn text<'a>(value: &'a Spanned<DeValue<'_>>) -> Result<&'a str, Mistake> {
    value.get_ref().as_str().ok_or_else(|| {
        let message = format!("expected a string instead of this {}", kind(value));
        (value.span(), message)
    })
}

/// A string with a form of its own.
///
/// # Errors
/// It is something else, or `parse` does not take it.
pub fn parsed<T>(
    value: &Spanned<DeValue<'_>>,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Mistake> {
    parse(text(value)?).ok_or_else(|| mistake(value, expected))
}

/// One word out of a few.
///
/// # Errors
/// It is none of them.
pub fn word<T: Copy>(value: &Spanned<DeValue<'_>>, words: &[(&str, T)]) -> Result<T, Mistake> {
    let text = text(value)?;
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<String> = words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        mistake(value, &known.join(" or "))
    })
}

/// An integer, in whatever base; `None` for anything else.
pub fn integer(value: &Spanned<DeValue<'_>>) -> Option<i64> {
    let integer = value.get_ref().as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

impl FromToml for bool {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<bool, Mistake> {
        let truth = value.get_ref().as_bool();
        truth.ok_or_else(|| mistake(value, "true or false"))
    }
}

impl FromToml for String {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<String, Mistake> {
        text(value).map(str::to_owned)
    }
}

impl FromToml for PathBuf {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<PathBuf, Mistake> {
        text(value).map(PathBuf::from)
    }
}

impl<T: FromToml> FromToml for Spanned<T> {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Spanned<T>, Mistake> {
        T::from_toml(value).map(|read| Spanned::new(value.span(), read))
    }
}

impl<T: FromToml> FromToml for Vec<T> {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Vec<T>, Mistake> {
        let list = value.get_ref().as_array().ok_or_else(|| {
            let message = format!("expected a list instead of this {}", kind(value));
            (value.span(), message)
        })?;
        list.iter().map(T::from_toml).collect()
    }
}
