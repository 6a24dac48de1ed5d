//! The files of certificates and keys, in PEM.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::postgres::conninfo::{ClientCertificate, Roots};

/// The trusted certificates, and those among them that a file names: they also stand for themselves.
pub(super) fn trusted(roots: &Roots) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let mut store = RootCertStore::empty();
    let named = match roots {
        Roots::File(path) => read(path, "sslrootcert")?,
        Roots::Unnamed | Roots::System => {
            let found = rustls_native_certs::load_native_certs().certs;
            store.add_parsable_certificates(found);
            Vec::new()
        }
    };
    store.add_parsable_certificates(named.iter().cloned());
    if store.is_empty() {
        return Err("this machine trusts no certificate; install its package ca-certificates, or write \
            sslrootcert=/path/to/ca.pem"
            .to_owned());
    }
    Ok((store, named))
}

/// The chain and the key of the client.
pub(super) fn identity(
    client: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = read(&client.certificate, "sslcert")?;
    let path = client.key.display();
    let metadata = std::fs::metadata(&client.key);
    let metadata = metadata.map_err(|error| format!("cannot read sslkey {path}: {error}; correct the path"))?;
    // As libpq: a key of root may be open to its group.
    let closed = if metadata.uid() == 0 { 0o027 } else { 0o077 };
    if metadata.permissions().mode() & closed != 0 {
        return Err(format!("other users may read sslkey {path}; chmod 0600 {path}"));
    }
    let key = PrivateKeyDer::from_pem_file(&client.key).map_err(|error| {
        format!("sslkey {path} holds no plain key in PEM: {error}; convert it: openssl pkey -in {path} -out plain.key")
    })?;
    Ok((chain, key))
}

fn read(path: &Path, keyword: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong =
        |error: String| format!("cannot read {keyword} {}: {error}; correct the path, or the file", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("it holds no certificate in PEM".to_owned()));
    }
    Ok(found)
}
