//! Certificates of tests: an authority, and what it signs, as PEM files in a directory of their own.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// An authority with a directory for its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
    /// The file of its certificate.
    pub file: PathBuf,
}

/// A certificate and its key, in files.
pub struct Certificate {
    /// The file of the certificate.
    pub cert: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority.
    ///
    /// # Panics
    /// If a file cannot be written.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "writes files")]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let dir = TempDir::new().expect("a directory");
        let file = dir.path().join("authority.pem");
        std::fs::write(&file, issuer.pem()).expect("a file");
        Self { issuer, dir, file }
    }

    /// A certificate for these names (or IP addresses), which is valid now.
    #[must_use]
    pub fn sign(&self, names: &[&str]) -> Certificate {
        self.issue(names, false)
    }

    /// A certificate that has expired.
    #[must_use]
    pub fn sign_expired(&self, names: &[&str]) -> Certificate {
        self.issue(names, true)
    }

    /// A certificate for these names that no authority signed.
    ///
    /// # Panics
    /// If a file cannot be written.
    #[must_use]
    pub fn self_signed(&self, names: &[&str]) -> Certificate {
        let own = rcgen::generate_simple_self_signed(owned(names)).expect("a certificate");
        write(self.dir.path(), &own.cert.pem(), &own.signing_key.serialize_pem())
    }

    fn issue(&self, names: &[&str], expired: bool) -> Certificate {
        let mut params = CertificateParams::new(owned(names)).expect("names of hosts");
        if expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        write(self.dir.path(), &signed.pem(), &key.serialize_pem())
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn write(dir: &Path, cert: &str, key: &str) -> Certificate {
    let name = uuid::Uuid::new_v4().simple().to_string();
    let files = Certificate { cert: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) };
    std::fs::write(&files.cert, cert).expect("a file");
    std::fs::write(&files.key, key).expect("a file");
    files
}
