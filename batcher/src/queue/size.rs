//! What a request adds to a batch.

use sluice_batch_policy::Size;
use sluice_protocol::{Datatype, InferRequest, Tensor};

use super::Work;
use crate::settings::ModelSettings;

/// Rows, bytes of the body and, where they are limited, tokens. A body that was not understood counts as one row.
pub fn size_of(work: &Work, settings: &ModelSettings<'_>) -> Size {
    match work {
        Work::Raw(body) => Size { rows: 1, bytes: body.len() as u64, tokens: 0 },
        Work::Parsed(request) => {
            let rows = u32::try_from(request.rows).unwrap_or(u32::MAX).max(1);
            // Nobody asks for them where they are not limited.
            let tokens = match settings.max_batch_tokens {
                None => 0,
                Some(_) => tokens_per_row(request, settings.tokens_input).saturating_mul(u64::from(rows)),
            };
            Size { rows, bytes: request.body.len() as u64, tokens }
        }
    }
}

/// Elements per row of the named input; without a name, of the one with the most, where these are integers: other
/// elements are no tokens. 0 where there is no such input.
fn tokens_per_row(request: &InferRequest, input: Option<&str>) -> u64 {
    let input = match input {
        Some(name) => request.inputs.iter().find(|input| input.name == name),
        None => {
            request.inputs.iter().max_by_key(|input| input.elements_per_row()).filter(|input| is_whole(input))
        }
    };
    input.map_or(0, |input| input.elements_per_row() as u64)
}

fn is_whole(input: &Tensor) -> bool {
    use Datatype::{Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
    matches!(input.datatype, Int8 | Int16 | Int32 | Int64 | Uint8 | Uint16 | Uint32 | Uint64)
}

#[cfg(test)]
mod tests {
    use sluice_protocol::{Limits, Target, parse_json};

    use super::*;
    use crate::settings::Settings;
    use crate::with_settings;

    fn tokens(inputs: &str, input: Option<&str>) -> u64 {
        let target = Target::from_path("/v2/models/m/infer").unwrap();
        let body = format!("{{\"inputs\":[{inputs}]}}");
        let request = parse_json(&target, body.into(), &Limits::default()).unwrap();
        let settings = with_settings!(
            Settings::default(),
            batching.max_batch_tokens = Some(100),
            batching.tokens_input = input.map(str::to_owned)
        );
        let size = size_of(&Work::Parsed(request), &settings.batching.of_all());
        assert_eq!(size.rows, 2);
        size.tokens
    }

    #[test]
    fn tokens_are_the_elements_of_the_longest_input_where_they_are_integers() {
        let ids = r#"{"name":"ids","datatype":"INT64","shape":[2,3],"data":[1,2,3,4,5,6]}"#;
        let bias = r#"{"name":"bias","datatype":"FP32","shape":[2,1],"data":[1,2]}"#;
        let image = r#"{"name":"image","datatype":"FP32","shape":[2,4],"data":[1,2,3,4,5,6,7,8]}"#;
        assert_eq!(tokens(&format!("{bias},{ids}"), None), 6);
        assert_eq!(tokens(&format!("{ids},{image}"), None), 0);
        assert_eq!(tokens(&format!("{ids},{image}"), Some("ids")), 6);
        assert_eq!(tokens(&format!("{ids},{image}"), Some("image")), 8);
        assert_eq!(tokens(ids, Some("absent")), 0);
    }
}
