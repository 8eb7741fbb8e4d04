//! What one call to the model carries, checked: rows of the reference function, whatever form they came in.

use crate::reference::{self, ID, WIDTH, X, Y};

/// Why a request is answered with 400 (INVALID_ARGUMENT): which input, what about it, what was expected.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum BadInput {
    /// The body is not what its content type says.
    #[error("request body: {0}")]
    Malformed(String),
    /// An input that the model does not have, or has been given already.
    #[error(
        "input `{0}`: unknown or given twice; this model takes `id` (INT64 [-1,1]) and `x` (FP32 [-1,16])"
    )]
    Unexpected(String),
    /// An input is absent.
    #[error("input `{0}`: missing; this model takes `id` (INT64 [-1,1]) and `x` (FP32 [-1,16])")]
    Missing(&'static str),
    /// Data type of an input.
    #[error("input `{name}`: datatype {found}, expected {expected}")]
    Datatype {
        /// The input.
        name: &'static str,
        /// What it said.
        found: String,
        /// What it must say.
        expected: &'static str,
    },
    /// Shape of an input.
    #[error("input `{name}`: shape {found:?}, expected [rows, {width}] with at least one row")]
    Shape {
        /// The input.
        name: &'static str,
        /// What it said.
        found: Vec<i64>,
        /// Its second dimension.
        width: usize,
    },
    /// Amount of data in an input.
    #[error("input `{name}`: {found} {unit}, but its shape asks for {expected}")]
    Length {
        /// The input.
        name: &'static str,
        /// What is there.
        found: usize,
        /// What its shape asks for.
        expected: usize,
        /// Of what.
        unit: &'static str,
    },
    /// One element of an input.
    #[error("input `{name}`: element {index} is `{found}`, expected {expected}")]
    Element {
        /// The input.
        name: &'static str,
        /// Position in row-major order.
        index: usize,
        /// Its text.
        found: String,
        /// Data type.
        expected: &'static str,
    },
    /// The two inputs disagree.
    #[error("inputs `id` and `x`: {id_rows} and {x_rows} rows, expected the same number")]
    Rows {
        /// Rows of `id`.
        id_rows: usize,
        /// Rows of `x`.
        x_rows: usize,
    },
    /// More rows than the model takes.
    #[error("batch of {rows} rows: this model takes at most {limit} (--max-batch-rows)")]
    TooManyRows {
        /// Rows of the request.
        rows: usize,
        /// The model's limit.
        limit: usize,
    },
    /// The id that was set to be refused.
    #[error("input `id`: row {index} has the poisoned id {id} (--poison-id)")]
    Poisoned {
        /// Position of the row.
        index: usize,
        /// Its id.
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
    /// Its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Input::Id => ID,
            Input::X => X,
        }
    }

    /// Its data type in requests.
    pub fn datatype(self) -> &'static str {
        match self {
            Input::Id => "INT64",
            Input::X => "FP32",
        }
    }

    /// Numbers per row.
    pub fn width(self) -> usize {
        match self {
            Input::Id => 1,
            Input::X => WIDTH,
        }
    }

    /// Bytes per number in raw form.
    pub fn element_bytes(self) -> usize {
        match self {
            Input::Id => 8,
            Input::X => 4,
        }
    }

    /// The input that a request's tensor means, and its rows, from what the request says about it.
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

/// The outputs that a request asked for; both unless it named some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The output `id`.
    pub id: bool,
    /// The output `y`.
    pub y: bool,
}

impl Wanted {
    /// From the names that a request gives; none means all.
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

/// What the model accepts.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most rows of one call.
    pub max_batch_rows: usize,
    /// An id whose call is refused, so that clients can test how they find it.
    pub poison_id: Option<i64>,
}

/// The rows of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// One id per row.
    pub ids: Vec<i64>,
    /// [`WIDTH`] numbers per row.
    pub x: Vec<f32>,
}

/// Collects the inputs of one request until both are there.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    ids: Option<Vec<i64>>,
    x: Option<Vec<f32>>,
}

impl BatchBuilder {
    /// Takes the input `id`.
    ///
    /// # Errors
    /// It has been given already.
    pub fn ids(&mut self, ids: Vec<i64>) -> Result<(), BadInput> {
        if self.ids.replace(ids).is_some() {
            return Err(BadInput::Unexpected(ID.to_owned()));
        }
        Ok(())
    }

    /// Takes the input `x`.
    ///
    /// # Errors
    /// It has been given already.
    pub fn x(&mut self, x: Vec<f32>) -> Result<(), BadInput> {
        if self.x.replace(x).is_some() {
            return Err(BadInput::Unexpected(X.to_owned()));
        }
        Ok(())
    }

    /// Takes an input in raw little-endian form, as the binary extension and gRPC carry it.
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

    /// The batch, when both inputs agree with each other and with the model's limits.
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
    /// The reference function of every row, [`WIDTH`] numbers each.
    pub fn answers(&self) -> Vec<f32> {
        let rows = self.ids.iter().zip(self.x.chunks(WIDTH));
        rows.flat_map(|(id, x)| x.iter().map(|x| reference::answer(*id, *x))).collect()
    }
}
