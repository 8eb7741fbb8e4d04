//! Input of one call to the model: validated rows of the reference function, independent of the wire format.

use crate::reference::{self, ID, WIDTH, X, Y};

/// Reason why a request gets 400 (INVALID_ARGUMENT): the input, what is wrong with it, what was expected.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum BadInput {
    /// The body is not what its content type says.
    #[error("request body: {0}")]
    Malformed(String),
    /// An input that the model does not have, or that occurs twice.
    #[error(
        "input `{0}`: unknown or given twice; this model takes `id` (INT64 [-1,1]) and `x` (FP32 [-1,16])"
    )]
    Unexpected(String),
    /// A missing input.
    #[error("input `{0}`: missing; this model takes `id` (INT64 [-1,1]) and `x` (FP32 [-1,16])")]
    Missing(&'static str),
    /// Wrong data type of an input.
    #[error("input `{name}`: datatype {found}, expected {expected}")]
    Datatype { name: &'static str, found: String, expected: &'static str },
    /// Wrong shape of an input.
    #[error("input `{name}`: shape {found:?}, expected [rows, {width}] with at least one row")]
    Shape {
        name: &'static str,
        found: Vec<i64>,
        /// Its second dimension.
        width: usize,
    },
    /// Wrong amount of data in an input.
    #[error("input `{name}`: {found} {unit}, but its shape asks for {expected}")]
    Length {
        name: &'static str,
        found: usize,
        /// Amount that the shape asks for.
        expected: usize,
        /// What is counted: `bytes`, `elements` …
        unit: &'static str,
    },
    /// An element of an input that is not a number of its type.
    #[error("input `{name}`: element {index} is `{found}`, expected {expected}")]
    Element {
        name: &'static str,
        /// Position in row-major order.
        index: usize,
        found: String,
        /// Data type.
        expected: &'static str,
    },
    /// The two inputs have different numbers of rows.
    #[error("inputs `id` and `x`: {id_rows} and {x_rows} rows, expected the same number")]
    Rows {
        /// Rows of `id`.
        id_rows: usize,
        /// Rows of `x`.
        x_rows: usize,
    },
    /// More rows than the model accepts.
    #[error("batch of {rows} rows: this model takes at most {limit} (--max-batch-rows)")]
    TooManyRows {
        /// Rows of the request.
        rows: usize,
        /// The model's limit.
        limit: usize,
    },
    /// A row with the id that `--poison-id` makes fail.
    #[error("input `id`: row {index} has the poisoned id {id} (--poison-id)")]
    Poisoned {
        /// Position of the row.
        index: usize,
        id: i64,
    },
    /// An output that the model does not have.
    #[error("output `{0}`: unknown; this model gives `id` and `y`")]
    UnknownOutput(String),
}

/// One of the model's two inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// `id`, INT64 `[rows, 1]`.
    Id,
    /// `x`, FP32 `[rows, 16]`.
    X,
}

impl Input {
    /// Returns the name of the input in requests.
    pub fn name(self) -> &'static str {
        match self {
            Input::Id => ID,
            Input::X => X,
        }
    }

    /// Returns the data type of the input in requests.
    pub fn datatype(self) -> &'static str {
        match self {
            Input::Id => "INT64",
            Input::X => "FP32",
        }
    }

    /// Returns how many numbers a row has.
    pub fn width(self) -> usize {
        match self {
            Input::Id => 1,
            Input::X => WIDTH,
        }
    }

    /// Returns the size of one number in raw form, in bytes.
    pub fn element_bytes(self) -> usize {
        match self {
            Input::Id => 8,
            Input::X => 4,
        }
    }

    /// Finds the input that a tensor of a request stands for, and returns it with its number of rows.
    ///
    /// # Errors
    /// Unknown name, other data type, or a shape that is not `[rows, width]`.
    pub fn of(name: &str, datatype: &str, shape: &[i64]) -> Result<(Self, usize), BadInput> {
        let input = match name {
            ID => Input::Id,
            X => Input::X,
            _ => return Err(BadInput::Unexpected(name.to_owned())),
        };
        if datatype != input.datatype() {
            let (name, expected) = (input.name(), input.datatype());
            return Err(BadInput::Datatype { name, found: datatype.to_owned(), expected });
        }
        match *shape {
            // The bound keeps rows × width far from overflow whatever the shape claims.
            [rows, width] if (1..=1 << 32).contains(&rows) && width == input.width() as i64 => {
                Ok((input, rows as usize))
            }
            _ => Err(BadInput::Shape { name: input.name(), found: shape.to_vec(), width: input.width() }),
        }
    }
}

/// Outputs that a request asks for; both unless it names some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The output `id`.
    pub id: bool,
    /// The output `y`.
    pub y: bool,
}

impl Wanted {
    /// Parses the names of requested outputs; no names means all outputs.
    ///
    /// # Errors
    /// A name that is not an output of the model.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, BadInput> {
        let mut wanted = Wanted { id: false, y: false };
        for name in names {
            match name {
                ID => wanted.id = true,
                Y => wanted.y = true,
                _ => return Err(BadInput::UnknownOutput(name.to_owned())),
            }
        }
        Ok(if wanted.id || wanted.y { wanted } else { Wanted { id: true, y: true } })
    }
}

/// Limits of what the model accepts.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum rows of one call.
    pub max_batch_rows: usize,
    /// Id of a row whose call fails with 400, so that clients can test how they isolate it; `None` for no such row.
    pub poison_id: Option<i64>,
}

/// The rows of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// One id per row.
    pub ids: Vec<i64>,
    /// `WIDTH` numbers per row.
    pub x: Vec<f32>,
}

/// Collects the inputs of one request until both are there.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    ids: Option<Vec<i64>>,
    x: Option<Vec<f32>>,
}

impl BatchBuilder {
    /// Sets the input `id`.
    pub fn ids(&mut self, ids: Vec<i64>) -> Result<(), BadInput> {
        if self.ids.replace(ids).is_some() {
            return Err(BadInput::Unexpected(ID.to_owned()));
        }
        Ok(())
    }

    /// Sets the input `x`.
    pub fn x(&mut self, x: Vec<f32>) -> Result<(), BadInput> {
        if self.x.replace(x).is_some() {
            return Err(BadInput::Unexpected(X.to_owned()));
        }
        Ok(())
    }

    /// Sets an input from raw little-endian bytes, as in the binary extension and in gRPC.
    ///
    /// # Errors
    /// The bytes are not as many as `rows` need, or the input has been given already.
    pub fn raw(&mut self, input: Input, rows: usize, bytes: &[u8]) -> Result<(), BadInput> {
        let expected = rows.saturating_mul(input.width() * input.element_bytes());
        if bytes.len() != expected {
            return Err(BadInput::Length { name: input.name(), found: bytes.len(), expected, unit: "bytes" });
        }
        match input {
            Input::Id => {
                self.ids(bytes.as_chunks::<8>().0.iter().map(|le| i64::from_le_bytes(*le)).collect())
            }
            Input::X => self.x(bytes.as_chunks::<4>().0.iter().map(|le| f32::from_le_bytes(*le)).collect()),
        }
    }

    /// Returns the batch, if both inputs have the same number of rows and respect the limits.
    ///
    /// # Errors
    /// A missing input, different row counts, too many rows, or the poisoned id.
    pub fn finish(self, limits: &Limits) -> Result<Batch, BadInput> {
        let ids = self.ids.ok_or(BadInput::Missing(ID))?;
        let x = self.x.ok_or(BadInput::Missing(X))?;
        let x_rows = x.len() / WIDTH;
        if ids.len() != x_rows {
            return Err(BadInput::Rows { id_rows: ids.len(), x_rows });
        }
        if ids.len() > limits.max_batch_rows {
            return Err(BadInput::TooManyRows { rows: ids.len(), limit: limits.max_batch_rows });
        }
        if let Some(poison) = limits.poison_id
            && let Some(index) = ids.iter().position(|id| *id == poison)
        {
            return Err(BadInput::Poisoned { index, id: poison });
        }
        Ok(Batch { ids, x })
    }
}

impl Batch {
    /// Computes the reference function of every row: `WIDTH` numbers each.
    pub fn answers(&self) -> Vec<f32> {
        let rows = self.ids.iter().zip(self.x.chunks(WIDTH));
        rows.flat_map(|(id, x)| x.iter().map(|x| reference::answer(*id, *x))).collect()
    }
}
