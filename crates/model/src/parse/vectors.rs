//! The rules for vectors.

use std::collections::HashSet;

use super::{Cause, Invalid};
use crate::chunk::{Chunk, Dense, Sparse};
use crate::limits::{Limits, SPARSE_MOST, SPARSE_SIZE};

pub(super) fn check(chunk: &Chunk, limits: &Limits) -> Result<(), Invalid> {
    let dense = &chunk.embeddings.dense;
    for (i, one) in dense.iter().enumerate() {
        let path =
            if dense.len() == 1 { "chunk.embeddings.dense".to_owned() } else { format!("chunk.embeddings.dense[{i}]") };
        check_dense(&path, one, limits)?;
        if dense[..i].iter().any(|other| other.model == one.model) {
            return Err(Invalid::new(
                path,
                format!("duplicate vector for model `{}`; send one vector per model", one.model),
            ));
        }
    }
    chunk.embeddings.sparse.as_ref().map_or(Ok(()), check_sparse)
}

fn check_dense(path: &str, dense: &Dense, limits: &Limits) -> Result<(), Invalid> {
    let Some(model) = limits.model(&dense.model) else {
        let known: Vec<_> = limits.models.iter().map(|m| m.model.as_str()).collect();
        return Err(Invalid::new(
            format!("{path}.model"),
            format!(
                "model `{}` is not configured (configured: {}); add it under [[embedding]]",
                dense.model,
                known.join(", ")
            ),
        )
        .because(Cause::Setting));
    };
    if dense.vector.len() != model.size {
        return Err(Invalid::new(
            format!("{path}.vector"),
            format!("{} numbers; model `{}` is configured with {}", dense.vector.len(), dense.model, model.size),
        )
        .because(Cause::Setting));
    }
    if let Some(i) = dense.vector.iter().position(|x| !x.is_finite()) {
        return Err(Invalid::new(format!("{path}.vector[{i}]"), "not a finite 32-bit float"));
    }
    if dense.timestamp.is_none() {
        return Err(Invalid::new(
            format!("{path}.timestamp"),
            "missing; give the time at which the vector was computed",
        ));
    }
    Ok(())
}

fn check_sparse(sparse: &Sparse) -> Result<(), Invalid> {
    let path = "chunk.embeddings.sparse";
    if sparse.indices.len() != sparse.values.len() {
        return Err(Invalid::new(
            format!("{path}.values"),
            format!("{} values for {} indices; give one value per index", sparse.values.len(), sparse.indices.len()),
        ));
    }
    if sparse.indices.len() > SPARSE_MOST {
        return Err(Invalid::new(
            format!("{path}.indices"),
            format!("{} values; the maximum is {SPARSE_MOST}; keep the greatest ones", sparse.indices.len()),
        ));
    }
    if let Some(index) = sparse.indices.iter().find(|i| **i >= SPARSE_SIZE) {
        return Err(Invalid::new(
            format!("{path}.indices"),
            format!("{index} is out of range; indices must be below {SPARSE_SIZE}"),
        ));
    }
    let mut seen = HashSet::new();
    if let Some(index) = sparse.indices.iter().find(|index| !seen.insert(**index)) {
        return Err(Invalid::new(format!("{path}.indices"), format!("{index} occurs twice; give each index once")));
    }
    if let Some(i) = sparse.values.iter().position(|x| !x.is_finite()) {
        return Err(Invalid::new(format!("{path}.values[{i}]"), "not a finite 32-bit float"));
    }
    Ok(())
}
