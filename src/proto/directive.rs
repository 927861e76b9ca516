//! The keys of the configuration that decide about clients, as the log names them.

/// A key that decided: its name, behind that of its table and a dot where it stands in one, as in
/// `user.access`. A test holds all that are made against the table of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directive(pub &'static str);

impl Directive {
    /// What permits clear text.
    pub(super) const PLAIN_FROM: Directive = Directive("plain-from");
    /// What makes TYPE A differ from TYPE I.
    pub(super) const ASCII: Directive = Directive("ascii");
    /// What makes PORT and EPRT understood.
    pub(super) const ACTIVE_MODE: Directive = Directive("active-mode");
    /// The user's rights in the root.
    pub const ACCESS: Directive = Directive("user.access");
    /// The user's rights in a share.
    pub const SHARE_ACCESS: Directive = Directive("share.access");
}
