//! A dense vector: shared instead of copied, and serialised as base64 of little-endian f32.

use std::ops::Deref;
use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The numbers of a dense vector. Clones share one allocation.
#[derive(Clone, Debug)]
pub struct Vector(Arc<[f32]>);

impl Vector {
    /// The vector scaled to length one, as Qdrant stores it in a cosine collection. A vector of zeros, or one whose
    /// norm is not finite, is returned unchanged. The norm is computed in f64, so that Qdrant finds the vector already
    /// normalised and changes no bit of it.
    ///
    /// ```
    /// use chunk_sync_model::vector::Vector;
    ///
    /// let vector = Vector::from(vec![3.0, 4.0]);
    /// assert_eq!(vector.normalised(), [0.6, 0.8]);
    /// ```
    #[must_use]
    pub fn normalised(&self) -> Vec<f32> {
        let norm = self.0.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if norm == 0.0 || !norm.is_finite() {
            return self.0.to_vec();
        }
        #[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is intended")]
        self.0.iter().map(|&x| (f64::from(x) / norm) as f32).collect()
    }

    /// The numbers as little-endian bytes, four per number.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// Reads little-endian f32; `None` if the number of bytes is not a multiple of four.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<4>();
        rest.is_empty().then(|| numbers.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>().into())
    }
}

/// Bitwise equality, because vectors read from a store are compared with the vectors written to it.
impl PartialEq for Vector {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.len() == other.0.len() && self.0.iter().zip(&*other.0).all(|(a, b)| a.to_bits() == b.to_bits()))
    }
}

impl From<Vec<f32>> for Vector {
    fn from(numbers: Vec<f32>) -> Self {
        Self(numbers.into())
    }
}

impl Deref for Vector {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text.as_bytes()).map_err(|e| D::Error::custom(format!("not valid base64: {e}")))?;
        Self::from_bytes(&bytes)
            .ok_or_else(|| D::Error::custom(format!("{} bytes; the length must be a multiple of 4", bytes.len())))
    }
}
