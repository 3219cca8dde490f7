//! A map from namespaces to values: each key is a namespace, or a pattern of many.
//!
//! In a pattern, `{name}` matches a part of one segment, at most one a segment, and `{*name}`, at the end, matches everything that
//! follows: `/shop/{id}`, `/team-{name}`, `/{*rest}`. Neither matches nothing.

use std::collections::HashMap;

use matchit::{InsertError, Router};

/// A map from namespaces and patterns to values.
#[derive(Debug, Clone)]
pub struct Namespaces<T> {
    exact: HashMap<String, T>,
    patterns: Router<T>,
}

impl<T> Default for Namespaces<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            patterns: Router::new(),
        }
    }
}

impl<T> Namespaces<T> {
    /// Adds a namespace or a pattern.
    ///
    /// # Errors
    /// If it is neither, is there already, or is ambiguous with another: what to change, for the user.
    pub fn insert(&mut self, namespace: &str, value: T) -> Result<(), String> {
        if !namespace.starts_with('/') {
            return Err(format!(
                "the namespace {namespace:?} does not begin with a slash; write \"/{namespace}\""
            ));
        }
        if namespace.contains(['{', '}']) {
            return self
                .patterns
                .insert(namespace, value)
                .map_err(|error| describe(namespace, error));
        }
        if self.exact.contains_key(namespace) {
            return Err(format!("the namespace {namespace:?} is there twice; remove one"));
        }
        self.exact.insert(namespace.to_owned(), value);
        Ok(())
    }

    /// The value of a namespace: that of its own name, else that of the most specific pattern.
    pub fn find(&self, namespace: &str) -> Option<&T> {
        let by_name = self.exact.get(namespace);
        by_name.or_else(|| self.patterns.at(namespace).ok().map(|found| found.value))
    }
}

fn describe(pattern: &str, error: InsertError) -> String {
    match error {
        InsertError::Conflict { with } => {
            format!("the namespaces {pattern:?} and {with:?} are ambiguous: both match the same names; change one")
        }
        InsertError::InvalidParamSegment => {
            format!("the namespace {pattern:?} has two variable parts in one segment: separate them by a slash")
        }
        InsertError::InvalidCatchAll => {
            format!(
                "the namespace {pattern:?} has something behind a {{*name}}, which matches everything that follows; put it at the end"
            )
        }
        _ => format!("the namespace {pattern:?} is not a pattern: write a variable part as in \"/shop/{{id}}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&'static str]) -> Namespaces<&'static str> {
        let mut namespaces = Namespaces::default();
        for name in names {
            namespaces.insert(name, *name).expect("it can be bound");
        }
        namespaces
    }

    #[test]
    fn exact_names_come_first_then_specific_patterns() {
        let namespaces = of(&["/", "/shop/{id}", "/shop/new", "/team-{name}", "/{*rest}"]);
        for (namespace, expected) in [
            ("/", "/"),
            ("/shop/new", "/shop/new"),
            ("/shop/7", "/shop/{id}"),
            ("/team-a b", "/team-{name}"),
            ("/team-", "/{*rest}"),
            ("/shop", "/{*rest}"),
            ("/shop/7/cart", "/{*rest}"),
            ("/été/π", "/{*rest}"),
            ("/{id}", "/{*rest}"),
        ] {
            assert_eq!(namespaces.find(namespace), Some(&expected), "{namespace}");
        }
    }

    #[test]
    fn unknown_namespaces_are_not_found() {
        let namespaces = of(&["/chat", "/shop/{id}"]);
        for namespace in [
            "",
            "/",
            "chat",
            "/chat/",
            "/chat2",
            "/shop",
            "/shop/",
            "/shop/1/2",
            "/shop/{id}/",
        ] {
            assert_eq!(namespaces.find(namespace), None, "{namespace}");
        }
        assert_eq!(of(&["/{*rest}"]).find("/"), None);
    }

    #[test]
    fn refuses_ambiguous_and_malformed_patterns() {
        for (first, second, reason) in [
            ("/a", "/a", "is there twice"),
            ("/a", "chat", "does not begin with a slash"),
            ("/shop/{id}", "/shop/{name}", "are ambiguous"),
            ("/a", "/{a}{b}", "two variable parts"),
            ("/a", "/{*rest}/x", "matches everything that follows"),
            ("/a", "/shop/{id", "is not a pattern"),
            ("/a", "/shop/{}", "is not a pattern"),
        ] {
            let error = of(&[first]).insert(second, "").expect_err(second);
            assert!(error.contains(reason) && error.contains(second), "{error}");
        }
    }

    mod arbitrary {
        use proptest::collection::vec;
        use proptest::prelude::*;

        use super::*;
        use plugnode_testing::arbitrary::{nearly_text, one_of, text};

        fn name() -> impl Strategy<Value = String> {
            let known = one_of(&[
                "/",
                "/shop/{id}",
                "/shop/new",
                "/team-{name}",
                "/{*rest}",
                "/a/{b}/c",
                "/{{x}}",
                "/{a}-{b}",
            ]);
            prop_oneof![3 => nearly_text(known), 1 => text().prop_map(|name| format!("/{name}"))]
        }

        proptest! {
            #[test]
            fn any_name_is_refused_or_found(names in vec(name(), 0..8), asked in vec(name(), 0..8)) {
                let mut namespaces = Namespaces::default();
                let mut bound = Vec::new();
                for name in names {
                    match namespaces.insert(&name, name.clone()) {
                        Ok(()) => bound.push(name),
                        Err(reason) => {
                            let shown = format!("{name:?}");
                            prop_assert!(reason.contains(&shown), "{reason}");
                        }
                    }
                }
                for name in &bound {
                    if !name.contains(['{', '}']) {
                        prop_assert_eq!(namespaces.find(name), Some(name), "its own name comes first");
                    }
                }
                for name in asked {
                    if let Some(found) = namespaces.find(&name) {
                        let is_pattern = found.contains('{');
                        prop_assert!(bound.contains(found) && (is_pattern || *found == name));
                    }
                }
            }
        }
    }
}
