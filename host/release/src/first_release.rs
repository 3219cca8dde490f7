//! The first release of an app: it is current without a rollout, and is replaced as long as it has only failed.

use crate::app_releases::{AppReleases, DEFAULT_KEPT_RELEASES, ReleaseError};
use crate::canary::Canary;
use crate::release::{ComponentFile, Origin, Release, ReleaseState};

impl AppReleases {
    /// The first release, of the component in a node's configuration. It is current at once.
    pub fn configured(component: ComponentFile, now_ms: u64, kept: usize) -> Self {
        Self::with_first(component, Origin::Config, now_ms, kept)
    }

    /// The first release, deployed while no node runs the app. The first node that does starts it.
    pub fn first_deployed(component: ComponentFile, now_ms: u64) -> Self {
        Self::with_first(component, Origin::Deploy, now_ms, DEFAULT_KEPT_RELEASES)
    }

    fn with_first(component: ComponentFile, origin: Origin, now_ms: u64, kept: usize) -> Self {
        Self {
            current: 1,
            releases: vec![component.release(1, now_ms, origin, ReleaseState::Current)],
            rollout: None,
            kept,
        }
    }

    /// Like [`deploy`](Self::deploy), for an app that no node runs: replaces a first release that was deployed and never
    /// started.
    pub fn deploy_without_nodes(
        &mut self,
        component: ComponentFile,
        canary: Option<Canary>,
        now_ms: u64,
    ) -> Result<u64, ReleaseError> {
        let first = self.in_use();
        if self.rollout.is_some() || first.origin != Origin::Deploy || !self.is_first(first) || first.is_tried {
            return self.deploy(component, canary, now_ms);
        }
        if first.digest == component.digest && first.first_failure.is_none() {
            return Err(ReleaseError::RollingOut(first.number));
        }
        Ok(self.replace_first(component, Origin::Deploy, now_ms))
    }

    /// Whether the app's first release has only failed, so that a changed component in the configuration may replace it.
    pub fn has_failed_start(&self) -> bool {
        let release = self.in_use();
        let has_only_failed = !release.is_tried && release.first_failure.is_some();
        has_only_failed && self.is_first(release) && self.rollout.is_none()
    }

    /// Whether no release was in use before `release`.
    fn is_first(&self, release: &Release) -> bool {
        let is_origin = matches!(release.origin, Origin::Config | Origin::Deploy);
        is_origin && self.releases.iter().all(|other| other.state != ReleaseState::Retired)
    }

    /// Records that the first release cannot start. Does nothing, and returns false, if another one is current by now or it has
    /// handled events.
    pub fn record_failed_start(&mut self, number: u64, reason: String) -> bool {
        let release = self.in_use();
        let is_first = release.number == number && !release.is_tried && self.is_first(release);
        if is_first {
            self.set_first_failure(reason);
        }
        is_first
    }

    /// Replaces a first release that never handled an event; the new one is current at once. Returns its number.
    pub fn replace_first(&mut self, component: ComponentFile, origin: Origin, now_ms: u64) -> u64 {
        let (before, number) = (self.current, self.next_number());
        let state = match self.in_use().first_failure.clone() {
            Some(reason) => ReleaseState::Failed(reason),
            None => ReleaseState::Superseded(number),
        };
        self.set_state(before, state);
        self.releases
            .push(component.release(number, now_ms, origin, ReleaseState::Current));
        self.current = number;
        self.forget_oldest();
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn component(name: &str) -> ComponentFile {
        ComponentFile {
            digest: Digest::of(name.as_bytes()),
            file: name.into(),
            bytes: 1,
        }
    }

    fn states(app: &AppReleases) -> Vec<(u64, ReleaseState)> {
        let states = app
            .releases
            .iter()
            .map(|release| (release.number, release.state.clone()));
        states.collect()
    }

    #[test]
    fn configured_component_replaces_failed_first_release() {
        let mut app = AppReleases::configured(component("a"), 0, 10);
        assert!(!app.has_failed_start(), "it has not failed yet");
        app.set_first_failure("it broke".into());
        assert!(app.has_failed_start());
        assert_eq!(app.replace_first(component("b"), Origin::Config, 0), 2);
        assert_eq!(
            states(&app),
            [(1, ReleaseState::Failed("it broke".into())), (2, ReleaseState::Current)]
        );
        app.set_first_failure("an event was wrong".into());
        app.set_tried();
        assert!(!app.has_failed_start());
        assert_eq!(app.in_use().first_failure, None);
    }

    #[test]
    fn untried_first_release_is_replaced_by_deploy() {
        let mut app = AppReleases::first_deployed(component("a"), 0);
        let again = |app: &mut AppReleases, name: &str| app.deploy_without_nodes(component(name), None, 0);
        assert_eq!(
            again(&mut app, "a"),
            Err(ReleaseError::RollingOut(1)),
            "it waits for a node"
        );
        assert_eq!(again(&mut app, "b"), Ok(2));
        assert!(!app.record_failed_start(1, "late".into()), "another is in use");
        assert!(app.record_failed_start(2, "it traps".into()) && app.has_failed_start());
        assert_eq!(again(&mut app, "b"), Ok(3), "it may be tried again");
        assert_eq!(
            states(&app),
            [
                (1, ReleaseState::Superseded(2)),
                (2, ReleaseState::Failed("it traps".into())),
                (3, ReleaseState::Current)
            ]
        );
        app.set_tried();
        assert_eq!(again(&mut app, "c"), Ok(4));
        assert_eq!(app.current, 3, "it is rolled out");
    }
}
