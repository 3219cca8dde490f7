//! Namespaces by name and by pattern.
//!
//! A pattern stands for many namespaces: `/shop/{id}` for `/shop/7`, `/{*rest}` for all. A name wins over a pattern. The
//! syntax is `matchit`'s: <https://docs.rs/matchit>.

use matchit::Router;

/// What belongs to which namespace.
pub struct Namespaces<T> {
    router: Router<T>,
}

impl<T> Namespaces<T> {
    /// Adds a name or a pattern.
    ///
    /// # Errors
    /// When it is no valid pattern, or matches what another matches as well.
    pub fn insert(&mut self, namespace: &str, value: T) -> Result<(), String> {
        let inserted = self.router.insert(namespace, value);
        inserted.map_err(|error| format!("the namespace {namespace:?} cannot be used: {error}"))
    }

    /// What a namespace belongs to.
    pub fn find(&self, namespace: &str) -> Option<&T> {
        self.router.at(namespace).ok().map(|found| found.value)
    }
}

impl<T> Default for Namespaces<T> {
    fn default() -> Self {
        Self { router: Router::new() }
    }
}
