//! Tells the reader when everything was read once, and whether the API server answers.

use crate::types::Event;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// A failure that is over within this time is not worth a word.
const GRACE: Duration = Duration::from_secs(2);

/// What one watch says of itself.
#[derive(Debug)]
pub(super) enum Report {
    /// All objects of the kind have been read once.
    Listed,
    /// The API server answers.
    Answered,
    /// It does not, for this reason.
    Failed(String),
}

/// Runs as long as any watch reports.
pub(super) async fn run(
    kinds: &[&'static str],
    mut reports: mpsc::Receiver<(&'static str, Report)>,
    events: mpsc::Sender<Event>,
) {
    let start = Instant::now();
    let silence = || (start, "the API server cannot be reached: no answer yet".to_owned());
    let mut unlisted: BTreeSet<&str> = kinds.iter().copied().collect();
    let mut failing: BTreeMap<&str, (Instant, String)> = kinds.iter().map(|kind| (*kind, silence())).collect();
    let mut told: Option<Result<(), String>> = None;
    loop {
        let worst = failing.values().min();
        let due = worst.map(|(since, _)| *since + GRACE);
        let news = match worst {
            None => Some(Ok(())),
            Some((since, reason)) if since.elapsed() >= GRACE => Some(Err(reason.clone())),
            Some(_) => None,
        };
        if let Some(news) = news.filter(|news| told.as_ref() != Some(news)) {
            match &news {
                Ok(()) => tracing::info!("the API server answers"),
                Err(reason) => tracing::warn!("{reason}; trying on"),
            }
            told = Some(news.clone());
            if events.send(Event::Reachable(news)).await.is_err() {
                return;
            }
        }
        let wait = async {
            match due.filter(|due| *due > Instant::now()) {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let report = tokio::select! {
            report = reports.recv() => report,
            () = wait => continue,
        };
        let Some((kind, report)) = report else { return };
        match report {
            Report::Listed => {
                failing.remove(kind);
                if unlisted.remove(kind) && unlisted.is_empty() && events.send(Event::Synced).await.is_err() {
                    return;
                }
            }
            Report::Answered => {
                failing.remove(kind);
            }
            Report::Failed(reason) => {
                failing.entry(kind).or_insert_with(|| (Instant::now(), String::new())).1 = reason;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(kinds: &'static [&'static str]) -> (mpsc::Sender<(&'static str, Report)>, mpsc::Receiver<Event>) {
        let (report, reports) = mpsc::channel(8);
        let (events, read) = mpsc::channel(8);
        tokio::spawn(async move { run(kinds, reports, events).await });
        (report, read)
    }

    #[tokio::test(start_paused = true)]
    async fn synced_comes_once_after_every_kind_was_listed() {
        let (report, mut events) = start(&["pools", "nodes"]);
        report.send(("pools", Report::Listed)).await.unwrap();
        report.send(("pools", Report::Listed)).await.unwrap();
        report.send(("nodes", Report::Listed)).await.unwrap();
        assert_eq!(events.recv().await, Some(Event::Synced));
        assert_eq!(events.recv().await, Some(Event::Reachable(Ok(()))));
        report.send(("nodes", Report::Listed)).await.unwrap();
        drop(report);
        assert_eq!(events.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_told_after_two_seconds_and_so_is_its_return() {
        let started = Instant::now();
        let (report, mut events) = start(&["pools", "nodes"]);
        let Some(Event::Reachable(Err(reason))) = events.recv().await else { panic!() };
        assert!(reason.contains("no answer yet"), "{reason}");
        assert!(started.elapsed() >= GRACE);
        report.send(("pools", Report::Answered)).await.unwrap();
        report.send(("nodes", Report::Answered)).await.unwrap();
        assert_eq!(events.recv().await, Some(Event::Reachable(Ok(()))));
        report.send(("nodes", Report::Failed("refused".into()))).await.unwrap();
        report.send(("nodes", Report::Answered)).await.unwrap(); // within the grace
        report.send(("pools", Report::Failed("forbidden".into()))).await.unwrap();
        assert_eq!(events.recv().await, Some(Event::Reachable(Err("forbidden".into()))));
    }
}
