//! A row of the table of chunks by its columns, each of them optional. Not here: what the row means as a chunk.

use chunk_sync_model::Time;
use chunk_sync_model::chunk::Dense;
use chunk_sync_model::vector::Vector;
use serde_json::Value;
use uuid::Uuid;

use super::cell::{Cell, FromCell, Indexed};

/// The kind of value of a column. Several PostgreSQL types may serve for one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Real,
    Bool,
    Uuid,
    Json,
    Time,
    Dense,
    Sparse,
}

/// A column that the service reads and writes, except `id`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $type:ty, $kind:ident;)*) => {
        /// A row of the table; `None` for NULL.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct RowImage {
            /// `id`
            pub id: Uuid,
            $($(#[$doc])* pub $name: Option<$type>,)*
            /// The vectors without a column, from `chunk_sync.embeddings`.
            pub further: Vec<Further>,
        }

        /// The columns in the order in which statements list them.
        pub(super) const COLUMNS: &[Column] = &[$(Column { name: stringify!($name), kind: Kind::$kind }),*];

        impl RowImage {
            /// The values in the order of [`COLUMNS`]. `sparse_size` is the number of dimensions of sparse vectors.
            pub(super) fn into_cells(self, sparse_size: u32) -> Vec<Cell> {
                let mut cells = vec![$(Cell::from(self.$name)),*];
                for cell in &mut cells {
                    if let Cell::Sparse(_, size) = cell {
                        *size = sparse_size;
                    }
                }
                cells
            }

            /// The row from its id and values in the order of [`COLUMNS`].
            pub(super) fn from_cells(id: Uuid, cells: impl IntoIterator<Item = Cell>) -> Self {
                let mut cells = cells.into_iter();
                Self {
                    id,
                    $($name: cells.next().and_then(<$type>::from_cell),)*
                    further: Vec::new(),
                }
            }
        }
    };
}

columns! {
    /// `content`
    content: String, Text;
    /// `summary`
    summary: String, Text;
    /// `chunk_type`
    chunk_type: String, Text;
    /// `dense_vector`
    dense_vector: Vector, Dense;
    /// `sparse_vector`
    sparse_vector: Indexed, Sparse;
    /// `embedding_model`: that of `dense_vector`.
    embedding_model: String, Text;
    /// `source_type`
    source_type: String, Text;
    /// `source_url`
    source_url: String, Text;
    /// `relative_path`
    relative_path: String, Text;
    /// `start_line`
    start_line: i64, Int;
    /// `end_line`
    end_line: i64, Int;
    /// `start_char`
    start_char: i64, Int;
    /// `end_char`
    end_char: i64, Int;
    /// `project_id`
    project_id: Uuid, Uuid;
    /// `dataset_id`
    dataset_id: Uuid, Uuid;
    /// `cognee_dataset_id`: the name of the data set in cognee, when it is a UUID.
    cognee_dataset_id: Uuid, Uuid;
    /// `language`
    language: String, Text;
    /// `file_extension`: derived from `relative_path`; written, never read.
    file_extension: String, Text;
    /// `is_code`
    is_code: bool, Bool;
    /// `confidence`
    confidence: f64, Real;
    /// `graph_node_id`
    graph_node_id: String, Text;
    /// `entity_refs`: an array of entities as in a chunk.
    entity_refs: Value, Json;
    /// `metadata`: as in a chunk, plus the fields without a column under `_chunk`.
    metadata: Value, Json;
    /// `created_at`
    created_at: Time, Time;
    /// `updated_at`
    updated_at: Time, Time;
    /// `indexed_at`
    indexed_at: Time, Time;
    /// `cognified_at`
    cognified_at: Time, Time;
}

/// A dense vector without a column.
#[derive(Clone, Debug, PartialEq)]
pub struct Further {
    /// Whether it is the alternative of a conflict of which both values were kept.
    pub alternative: bool,
    /// The vector.
    pub dense: Dense,
}

impl From<Indexed> for Cell {
    fn from(sparse: Indexed) -> Self {
        Self::Sparse(sparse, 0)
    }
}
