//! What PostgreSQL needs of a certificate beyond its verification: the digest that binds a login to it, and its period of
//! validity. Pure; reads DER only as far as necessary.
//!
//! Source: RFC 5280, section 4.1; RFC 5929, section 4.1.

use chunk_sync_model::Time;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The optional version, tagged `[0]`.
const VERSION: u8 = 0xa0;

/// An object identifier in DER, by the digest that it means.
const SHA256: &[&[u8]] = &[
    // sha256WithRSAEncryption, ecdsa-with-SHA256, SHA-256; MD5 and SHA-1 count as SHA-256 (RFC 5929).
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
    &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1],
];
const SHA384: &[&[u8]] = &[
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
    &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2],
];
const SHA512: &[&[u8]] = &[
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4],
    &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3],
];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];

/// The digest of the certificate by the algorithm of its signature; `None` where the signature has none (Ed25519).
pub(super) fn digest(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let mut whole = Der(certificate).element(SEQUENCE)?;
    whole.element(SEQUENCE)?;
    let mut algorithm = whole.element(SEQUENCE)?;
    let mut oid = algorithm.element(OID)?.0;
    if oid == RSA_PSS {
        // Its parameters begin with the digest: SEQUENCE { [0] SEQUENCE { OID } … }.
        oid = algorithm.element(SEQUENCE)?.element(VERSION)?.element(SEQUENCE)?.element(OID)?.0;
    }
    if SHA256.contains(&oid) {
        Some(Sha256::digest(certificate).to_vec())
    } else if SHA384.contains(&oid) {
        Some(Sha384::digest(certificate).to_vec())
    } else {
        SHA512.contains(&oid).then(|| Sha512::digest(certificate).to_vec())
    }
}

/// The end of the period of validity.
pub(super) fn valid_until(certificate: &CertificateDer<'_>) -> Option<Time> {
    let mut body = Der(certificate).element(SEQUENCE)?.element(SEQUENCE)?;
    if body.0.first() == Some(&VERSION) {
        body.next()?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        body.next()?;
    }
    let mut period = body.element(SEQUENCE)?;
    period.next()?;
    let (tag, end) = period.next()?;
    let text = std::str::from_utf8(end).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // Two digits of the year: 50 to 99 are of the last century.
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize| text.get(from..from + 2);
    let (date, hour) = (text.get(..4)?, part(8)?);
    let stamp = format!("{date}-{}-{}T{hour}:{}:{}Z", part(4)?, part(6)?, part(10)?, part(12)?);
    stamp.parse().ok()
}

/// A cursor over elements of tag, length and value.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and its value.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..0x80 => (usize::from(*first), rest),
            _ => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let fits = !bytes.is_empty() && bytes.len() <= 4;
                let length = bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
                (fits.then_some(length)?, rest)
            }
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, value))
    }

    /// The next element, if it has this tag.
    fn element(&mut self, tag: u8) -> Option<Der<'a>> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| Der(value))
    }
}
