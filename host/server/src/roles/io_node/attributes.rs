//! The first attributes of a client: the fields of its handshake that the configuration names, and claims of its token.
//!
//! The client itself chooses the fields of its handshake. Claims were verified, and override them.

use std::cell::OnceCell;

use serde_json::{Map, Value};

use super::field::Field;
use plugnode_message::json::without_lone_surrogates;
use plugnode_message::{Handshake, MAX_ATTRIBUTES, Refusal, Text};

/// Looks up fields of a handshake.
pub(super) struct Fields<'a> {
    handshake: &'a Handshake,
    auth: OnceCell<Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(handshake: &'a Handshake) -> Self {
        Self {
            handshake,
            auth: OnceCell::new(),
        }
    }

    /// The value of a field; the first of several parameters or headers of that name.
    pub(super) fn find(&self, field: &Field) -> Option<Value> {
        match field {
            Field::Auth(keys) => {
                let found = keys.iter().try_fold(self.auth(), |value, key| value.get(key))?;
                Some(found.clone())
            }
            Field::Query(name) => form_urlencoded::parse(self.handshake.query.as_bytes())
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned().into()),
            Field::Header(name) => self
                .handshake
                .headers
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone().into()),
        }
    }

    fn auth(&self) -> &Value {
        let parse = || serde_json::from_str(&without_lone_surrogates(self.handshake.auth.as_deref()?)).ok();
        self.auth.get_or_init(|| parse().unwrap_or_default())
    }
}

/// The first attributes of a client, a JSON object: the wanted fields, overridden by the claims.
///
/// # Errors
/// With the refusal of the client if they are too large.
pub(super) fn first(
    wanted: &[(String, Field)],
    fields: &Fields<'_>,
    claims: Map<String, Value>,
) -> Result<Text, Refusal> {
    if wanted.is_empty() && claims.is_empty() {
        return Ok(Text::from_static("{}"));
    }
    let mut attributes: Map<String, Value> = wanted
        .iter()
        .filter_map(|(name, field)| Some((name.clone(), fields.find(field)?)))
        .collect();
    attributes.extend(claims);
    let attributes = Value::Object(attributes).to_string();
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(Refusal {
            message: Text::from_static("the attributes in the handshake are too large"),
            data: None,
        });
    }
    Ok(attributes.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn handshake() -> Handshake {
        let auth = json!({ "user": { "id": 7, "name": "Ää" }, "admin": true, "sub": "forged" });
        Handshake {
            auth: Some(auth.to_string().into()),
            query: "page=a%20b%26c&page=second&EIO=4&empty=".into(),
            headers: [("user-agent".into(), "test/1".into()), ("x".into(), "y".into())].into(),
            remote_addr: None,
            transport: "polling".into(),
            recovered: false,
        }
    }

    fn auth(keys: &str) -> Field {
        Field::Auth(keys.split('.').map(String::from).collect())
    }

    #[test]
    fn finds_fields_and_leaves_out_missing_ones() {
        let wanted = [
            ("id".into(), auth("user.id")),
            ("user".into(), auth("user")),
            ("none".into(), auth("user.id.deeper")),
            ("page".into(), Field::Query("page".into())),
            ("empty".into(), Field::Query("empty".into())),
            ("no-query".into(), Field::Query("nothing".into())),
            ("agent".into(), Field::Header("user-agent".into())),
            ("no-header".into(), Field::Header("cookie".into())),
        ];
        let handshake = handshake();
        let attributes = first(&wanted, &Fields::of(&handshake), Map::new()).unwrap();
        let attributes: Value = serde_json::from_str(&attributes).unwrap();
        let user = json!({ "id": 7, "name": "Ää" });
        assert_eq!(
            attributes,
            json!({ "id": 7, "user": user, "page": "a b&c", "empty": "", "agent": "test/1" })
        );
    }

    #[test]
    fn claims_override_fields_of_the_handshake() {
        let handshake = handshake();
        let claims = Map::from_iter([("sub".into(), "ann".into())]);
        let attributes = first(&[("sub".into(), auth("sub"))], &Fields::of(&handshake), claims);
        assert_eq!(&*attributes.unwrap(), r#"{"sub":"ann"}"#);
    }

    #[test]
    fn missing_or_invalid_auth_has_no_fields() {
        for auth_text in [None, Some(""), Some("[1"), Some("null"), Some("\"user\"")] {
            let mut handshake = handshake();
            handshake.auth = auth_text.map(Text::from_static);
            let attributes = first(&[("user".into(), auth("user"))], &Fields::of(&handshake), Map::new());
            assert_eq!(&*attributes.unwrap(), "{}", "{auth_text:?}");
        }
    }

    #[test]
    fn refuses_attributes_that_are_too_large() {
        let mut handshake = handshake();
        let wanted = [("big".into(), auth("big"))];
        for (length, taken) in [
            (MAX_ATTRIBUTES - 10, true),
            (MAX_ATTRIBUTES - 9, false),
            (10 * MAX_ATTRIBUTES, false),
        ] {
            handshake.auth = Some(json!({ "big": "x".repeat(length) }).to_string().into());
            let attributes = first(&wanted, &Fields::of(&handshake), Map::new());
            assert_eq!(attributes.is_ok(), taken, "{length}");
        }
    }

    mod arbitrary {
        use proptest::collection::vec;
        use proptest::prelude::*;

        use super::*;
        use plugnode_testing::arbitrary::{json_text, nearly_text, peak, text};

        proptest! {
            #[test]
            fn first_attributes_are_always_an_object_within_the_limit(
                auth in proptest::option::of(nearly_text(json_text())),
                query in nearly_text((text(), text()).prop_map(|(name, value)| format!("{name}={value}&a=b"))),
                headers in vec((text(), text()), 0..4),
                wanted in vec((text(), vec(text(), 1..3), 0_u8..3), 0..4),
            ) {
                let mut handshake = handshake();
                handshake.auth = auth.map(Text::from);
                handshake.query = query.into();
                handshake.headers = headers.into();
                let wanted: Vec<(String, Field)> = wanted.into_iter().map(|(name, keys, kind)| {
                    let field = match kind {
                        0 => Field::Auth(keys),
                        1 => Field::Query(keys[0].clone()),
                        _ => Field::Header(keys[0].clone()),
                    };
                    (name, field)
                }).collect();
                let size = handshake.query.len() + handshake.auth.as_ref().map_or(0, |auth| auth.len());
                let (attributes, peak) = peak(|| first(&wanted, &Fields::of(&handshake), Map::new()));
                prop_assert!(peak <= 400 * size as u64 + (64 << 10), "{peak} bytes for {size}");
                let attributes = attributes.expect("it is small");
                let read: Map<String, Value> = serde_json::from_str(&attributes).expect("it is an object");
                prop_assert!(read.keys().all(|name| wanted.iter().any(|(wanted, _)| wanted == name)));
            }
        }
    }
}
