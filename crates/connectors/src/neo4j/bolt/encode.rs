//! Writes values and messages as PackStream bytes, and messages in chunks.

use super::request::Request;
use super::value::Value;

/// The longest chunk of a message.
const CHUNK: usize = 0xffff;

/// Appends a request: its chunks, each after its length, and the end mark.
pub(super) fn message(request: &Request<'_>, version: [u8; 2], out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    let fields = request.fields(version);
    // A structure has at most 15 fields; a request has at most three.
    bytes.push(0xb0 | fields.len() as u8);
    bytes.push(request.tag());
    fields.iter().for_each(|field| value(field, &mut bytes));
    for chunk in bytes.chunks(CHUNK) {
        out.extend((chunk.len() as u16).to_be_bytes());
        out.extend(chunk);
    }
    out.extend([0, 0]);
}

fn value(of: &Value, out: &mut Vec<u8>) {
    match of {
        Value::Null | Value::Other => out.push(0xc0),
        Value::Boolean(false) => out.push(0xc2),
        Value::Boolean(true) => out.push(0xc3),
        Value::Integer(number) => integer(*number, out),
        Value::Float(number) => {
            out.push(0xc1);
            out.extend(number.to_be_bytes());
        }
        Value::Text(text) => string(text, out),
        Value::List(values) => {
            head(values.len(), [0x90, 0xd4, 0xd5, 0xd6], out);
            values.iter().for_each(|of| value(of, out));
        }
        Value::Map(fields) => {
            head(fields.len(), [0xa0, 0xd8, 0xd9, 0xda], out);
            for (key, of) in fields {
                string(key, out);
                value(of, out);
            }
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    head(text.len(), [0x80, 0xd0, 0xd1, 0xd2], out);
    out.extend(text.as_bytes());
}

fn integer(number: i64, out: &mut Vec<u8>) {
    if (-16..=127).contains(&number) {
        out.push(number as u8);
    } else if let Ok(number) = i8::try_from(number) {
        out.push(0xc8);
        out.extend(number.to_be_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        out.push(0xc9);
        out.extend(number.to_be_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(0xca);
        out.extend(number.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend(number.to_be_bytes());
    }
}

/// Writes a length with one of the markers for up to 15, and for 8, 16 and 32 bits.
fn head(length: usize, markers: [u8; 4], out: &mut Vec<u8>) {
    match length {
        0..=15 => out.push(markers[0] | length as u8),
        16..=0xff => out.extend([markers[1], length as u8]),
        0x100..=0xffff => {
            out.push(markers[2]);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.push(markers[3]);
            out.extend((length as u32).to_be_bytes());
        }
    }
}
