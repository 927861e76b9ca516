//! `make run`: a server to try, with TLS, a user and a directory below `target/demo`, made at the
//! first run and kept. Usage: demo BINARY DIRECTORY.

#![allow(clippy::print_stdout, reason = "it speaks to a person")]

use std::error::Error;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ftpsd::auth;
use ftpsd::privilege::{self, Account};
use ftpsd::proto::command::Password;

/// Whom the server changes to when root starts it.
const ACCOUNT: &str = "nobody";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [binary, place] = &arguments[..] else {
        return Err("usage: demo BINARY DIRECTORY".into());
    };
    let place = std::path::absolute(place)?;
    fs::create_dir_all(place.join("files"))?;
    let chain = place.join("cert.pem");
    let key = place.join("key.pem");
    if !chain.exists() || !key.exists() {
        make_certificate(&chain, &key)?;
    }
    let configuration = place.join("ftpsd.toml");
    if !configuration.exists() {
        fs::write(&configuration, configure(&place)?)?;
    }
    if privilege::is_root() {
        hand_over(&place.join("files"), &key)?;
    }
    explain(&chain, &place)?;
    Err(Command::new(binary)
        .arg("-F")
        .arg("-f")
        .arg(&configuration)
        .exec()
        .into())
}

/// Started by root, the server changes to an account, which has to reach and own the files.
fn hand_over(files: &Path, key: &Path) -> Result<(), Box<dyn Error>> {
    let account = Account::find(ACCOUNT)?;
    let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
    for path in [files, key] {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    }
    for above in files.ancestors().skip(1) {
        if fs::metadata(above)?.permissions().mode() & 0o001 == 0 {
            let above = above.display();
            return Err(format!(
                "started by root it serves as {ACCOUNT}, who may not pass through {above}: be \
                 somebody else, or try `make run DEMO=/var/tmp/ftpsd-demo`"
            )
            .into());
        }
    }
    Ok(())
}

fn make_certificate(chain: &Path, key: &Path) -> Result<(), Box<dyn Error>> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let pair = rcgen::KeyPair::generate()?;
    let mut parameters = rcgen::CertificateParams::new(names)?;
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, "ftpsd demo");
    parameters.distinguished_name = name;
    let certificate = parameters.self_signed(&pair)?;
    let mut secret = fs::OpenOptions::new();
    let mut secret = secret
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(key)?;
    secret.write_all(pair.serialize_pem().as_bytes())?;
    fs::write(chain, certificate.pem())?;
    Ok(())
}

fn configure(place: &Path) -> Result<String, Box<dyn Error>> {
    let hash = auth::hash(&Password::new(b"demo".to_vec()))?;
    let place = place.display();
    Ok(format!(
        "# Looked at when root starts it.\n\
         account = \"{ACCOUNT}\"\n\
         listen = [\"127.0.0.1:2121\"]\n\
         listen-implicit = [\"127.0.0.1:2990\"]\n\n\
         [[certificate]]\n\
         chain = \"{place}/cert.pem\"\n\
         key = \"{place}/key.pem\"\n\n\
         [[user]]\n\
         name = \"demo\"\n\
         password = \"{hash}\"\n\
         root = \"{place}/files\"\n"
    ))
}

fn explain(chain: &Path, place: &Path) -> Result<(), Box<dyn Error>> {
    let pem = fs::read(chain)?;
    let certificate = rustls_pemfile::certs(&mut &pem[..])
        .next()
        .ok_or("no certificate in it")??;
    let digest = ring::digest::digest(&ring::digest::SHA256, &certificate);
    let fingerprint: Vec<String> = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let chain = chain.display();
    println!(
        "Files:       {files}\n\
         User:        demo, password demo\n\
         Certificate: {chain}\n\
         SHA-256:     {fingerprint}\n\n\
         Upload a file:\n  \
         curl --ssl-reqd --cacert {chain} --user demo:demo --upload-file README.md ftp://127.0.0.1:2121/\n\
         The same with implicit TLS, and a listing:\n  \
         curl --cacert {chain} --user demo:demo --upload-file README.md ftps://127.0.0.1:2990/\n  \
         curl --cacert {chain} --user demo:demo ftps://127.0.0.1:2990/\n\
         Fetch everything into the directory `mirrored`:\n  \
         lftp -u demo,demo -e 'set ftp:ssl-force true; set ssl:ca-file {chain}; mirror / mirrored; bye' ftp://127.0.0.1:2121\n\n\
         Ctrl-C ends the server.\n",
        files = place.join("files").display(),
        fingerprint = fingerprint.join(":"),
    );
    Ok(())
}
