//! One value of a column, encoded to and decoded from PostgreSQL's binary format. The server reports the type of the
//! column, and a cell is encoded and decoded for that type. Not here: what the values mean.

use bytes::{BufMut, BytesMut};
use chunk_sync_model::Time;
use chunk_sync_model::vector::Vector;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type};
use uuid::Uuid;

use super::json;

/// PostgreSQL's epoch, 2000-01-01, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// A sparse vector of a column. Indices ascend and start at 0, as in a chunk. In the text form of a `sparsevec` they
/// start at 1, in its binary form at 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Indexed {
    /// The indices of the values that are not zero.
    pub indices: Vec<u32>,
    /// One value per index.
    #[serde(with = "exact")]
    pub values: Vec<f32>,
}

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Text(String),
    Texts(Vec<String>),
    Int(i64),
    Real(f64),
    Bool(bool),
    Uuid(Uuid),
    Time(Time),
    Json(Value),
    Dense(Vector),
    /// A sparse vector and its number of dimensions, zeros included.
    Sparse(Indexed, u32),
}

/// A value that is malformed for the type of its column.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unfit(String);

type Failure = Box<dyn std::error::Error + Sync + Send>;

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Converts a cell into a field of a row; `None` when the cell is NULL or of another kind.
pub(super) trait FromCell: Sized {
    fn from_cell(cell: Cell) -> Option<Self>;
}

macro_rules! cells {
    ($($variant:ident($type:ty)),* $(,)?) => {
        $(
            impl From<$type> for Cell {
                fn from(value: $type) -> Self {
                    Self::$variant(value)
                }
            }

            impl FromCell for $type {
                fn from_cell(cell: Cell) -> Option<Self> {
                    match cell {
                        Cell::$variant(value) => Some(value),
                        _ => None,
                    }
                }
            }
        )*
    };
}

cells! {
    Text(String), Int(i64), Real(f64), Bool(bool), Uuid(Uuid), Time(Time), Json(Value), Dense(Vector),
}

impl FromCell for Indexed {
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Sparse(sparse, _) => Some(sparse),
            Cell::Json(value) => Self::deserialize(value).ok().filter(|s| s.indices.len() == s.values.len()),
            _ => None,
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        if let Kind::Domain(base) = ty.kind() {
            return self.to_sql(base, out);
        }
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Texts(texts) => return texts.to_sql(ty, out),
            Self::Int(number) => put_int(*number, ty, out)?,
            Self::Real(number) => put_real(*number, ty, out),
            Self::Bool(value) => out.put_u8(u8::from(*value)),
            Self::Uuid(id) => out.put_slice(id.as_bytes()),
            Self::Time(time) => out.put_i64(time.micros() - POSTGRES_EPOCH),
            Self::Json(value) => put_json(value, ty, out)?,
            Self::Dense(vector) if ty.name() == "vector" => put_vector(vector, out)?,
            Self::Dense(vector) => return (&**vector).to_sql(ty, out),
            Self::Sparse(sparse, size) if ty.name() == "sparsevec" => put_sparse(sparse, *size, out)?,
            Self::Sparse(sparse, _) => put_json(sparse, ty, out)?,
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        self.to_sql(ty, out)
    }
}

fn put_int(number: i64, ty: &Type, out: &mut BytesMut) -> Result<(), Failure> {
    match *ty {
        Type::INT2 => out.put_i16(number.try_into()?),
        Type::INT4 => out.put_i32(number.try_into()?),
        _ => out.put_i64(number),
    }
    Ok(())
}

fn put_real(number: f64, ty: &Type, out: &mut BytesMut) {
    #[allow(clippy::cast_possible_truncation, reason = "the column has single precision")]
    if *ty == Type::FLOAT4 {
        out.put_f32(number as f32);
    } else {
        out.put_f64(number);
    }
}

fn put_json(value: &impl Serialize, ty: &Type, out: &mut BytesMut) -> Result<(), Failure> {
    if *ty == Type::JSONB {
        out.put_u8(1);
    }
    Ok(serde_json::to_writer(out.writer(), value)?)
}

fn put_vector(vector: &[f32], out: &mut BytesMut) -> Result<(), Failure> {
    out.put_u16(vector.len().try_into()?);
    out.put_u16(0);
    vector.iter().for_each(|x| out.put_f32(*x));
    Ok(())
}

fn put_sparse(sparse: &Indexed, size: u32, out: &mut BytesMut) -> Result<(), Failure> {
    out.put_u32(size);
    out.put_u32(sparse.indices.len().try_into()?);
    out.put_u32(0);
    sparse.indices.iter().for_each(|i| out.put_u32(*i));
    sparse.values.iter().for_each(|x| out.put_f32(*x));
    Ok(())
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(match *ty {
            Type::INT2 => Self::Int(i16::from_sql(ty, raw)?.into()),
            Type::INT4 => Self::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::FLOAT4 => Self::Real(widened(f32::from_sql(ty, raw)?)),
            Type::FLOAT8 => Self::Real(f64::from_sql(ty, raw)?),
            Type::BOOL => Self::Bool(bool::from_sql(ty, raw)?),
            Type::UUID => Self::Uuid(Uuid::from_sql(ty, raw)?),
            Type::TIMESTAMP | Type::TIMESTAMPTZ => time(&numbers::<8, i64>(raw, i64::from_be_bytes)?),
            Type::JSON => Self::Json(json::parse(std::str::from_utf8(raw)?)),
            // The first byte is the version of the format.
            Type::JSONB => Self::Json(json::parse(std::str::from_utf8(after(raw, 1)?)?)),
            Type::FLOAT4_ARRAY => <Vec<f32>>::from_sql(ty, raw).map_or(Self::Null, |x| Self::Dense(x.into())),
            _ => match ty.name() {
                "vector" => Self::Dense(numbers::<4, f32>(after(raw, 4)?, f32::from_be_bytes)?.into()),
                "sparsevec" => sparse(raw)?,
                _ => Self::Text(std::str::from_utf8(raw)?.to_owned()),
            },
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Widens by way of the shortest decimal: the single-precision 0.9 becomes 0.9, not 0.8999999762.
pub(super) fn widened(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| number.into())
}

/// The first microsecond that RFC 3339 can write, since 1970, and the last one that is in the year 9999 at every offset.
const FIRST: i64 = -62_135_596_800_000_000;
const LAST: i64 = 253_402_207_199_999_999;

/// A time; the nearest one that RFC 3339 can write for `infinity`, for years before 1 and after 9999. An update that
/// does not change the column leaves the exact value there.
fn time(micros: &[i64]) -> Cell {
    match micros {
        [] => Cell::Null,
        [micros, ..] => Cell::Time(Time::from_micros(micros.saturating_add(POSTGRES_EPOCH).clamp(FIRST, LAST))),
    }
}

fn sparse(raw: &[u8]) -> Result<Cell, Failure> {
    let head = numbers::<4, u32>(raw.get(..12).ok_or_else(short)?, u32::from_be_bytes)?;
    let (size, body) = (head[0], after(raw, 12)?);
    let (indices, values) = body.split_at_checked(4 * head[1] as usize).ok_or_else(short)?;
    let indices = numbers(indices, u32::from_be_bytes)?;
    let values = numbers(values, f32::from_be_bytes)?;
    Ok(Cell::Sparse(Indexed { indices, values }, size))
}

fn after(raw: &[u8], at: usize) -> Result<&[u8], Unfit> {
    raw.get(at..).ok_or_else(short)
}

fn numbers<const N: usize, T>(raw: &[u8], read: fn([u8; N]) -> T) -> Result<Vec<T>, Unfit> {
    let (numbers, rest) = raw.as_chunks::<N>();
    if rest.is_empty() { Ok(numbers.iter().map(|bytes| read(*bytes)).collect()) } else { Err(short()) }
}

fn short() -> Unfit {
    Unfit("the binary value of a column is truncated".to_owned())
}

mod exact {
    //! Single-precision numbers in JSON, written in double precision: JSON parsers read doubles, and rounding one back
    //! to single precision yields the same number.

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|x| f64::from(*x)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        #[allow(clippy::cast_possible_truncation, reason = "the writer widened single-precision numbers")]
        Ok(Vec::<f64>::deserialize(deserializer)?.into_iter().map(|x| x as f32).collect())
    }
}
