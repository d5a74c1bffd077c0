//! Against a scripted API server, for what a real one cannot be made to do at will.

use super::*;
use k8s_openapi::api::core::v1::Namespace;
use kube::client::Body;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// An answer to one request, in order.
enum Answer {
    /// A status code and a body.
    Json(u16, Value),
    /// A watch: these lines, and then its end.
    Watch(Vec<Value>),
    /// None.
    Silence,
}
use Answer::{Json, Silence, Watch};

type Requests = Arc<Mutex<Vec<String>>>;

/// What a watch makes of the answers, step by step; after the last answer the server is silent.
fn scripted(answers: Vec<Answer>) -> (impl Stream<Item = String>, Requests) {
    let (requests, answers) = (Requests::default(), Arc::new(Mutex::new(VecDeque::from(answers))));
    let log = requests.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        log.lock().unwrap().push(request.uri().query().unwrap_or_default().to_owned());
        let answer = answers.lock().unwrap().pop_front().unwrap_or(Silence);
        async {
            let (code, body) = match answer {
                Json(code, body) => (code, body.to_string()),
                Watch(lines) => (200, lines.iter().map(|line| format!("{line}\n")).collect()),
                Silence => std::future::pending().await,
            };
            Ok::<_, tower::BoxError>(
                http::Response::builder().status(code).body(Body::from(body.into_bytes())).unwrap(),
            )
        }
    });
    let client = Client::new(service, "default");
    let steps = watch::<Namespace>(client, "/api/v1/namespaces".to_owned(), None).map(|step| match step {
        Step::Begin => "begin".to_owned(),
        Step::Apply(object) => format!("apply {}", object.name_any()),
        Step::Delete(object) => format!("delete {}", object.name_any()),
        Step::Listed => "listed".to_owned(),
        Step::Failed(reason) => format!("failed: {reason}"),
        Step::Resumed => "resumed".to_owned(),
    });
    (steps, requests)
}

async fn first(steps: impl Stream<Item = String>, count: usize) -> Vec<String> {
    steps.take(count).collect().await
}

fn object(name: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "resourceVersion": version}})
}

fn event(type_: &str, name: &str, version: &str) -> Value {
    json!({"type": type_, "object": object(name, version)})
}

fn end_of_list(version: &str) -> Value {
    json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Namespace", "metadata":
        {"resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}}}})
}

fn page(next: &str, version: &str, names: &[&str]) -> Answer {
    let items: Vec<Value> = names.iter().map(|name| object(name, "1")).collect();
    let metadata = json!({"continue": next, "resourceVersion": version});
    Json(200, json!({"apiVersion": "v1", "kind": "NamespaceList", "metadata": metadata, "items": items}))
}

fn status(code: u16, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message})
}

fn error(code: u16) -> Value {
    json!({"type": "ERROR", "object": status(code, "an error")})
}

#[tokio::test(start_paused = true)]
async fn a_streamed_list_is_consistent_and_the_watch_goes_on_from_its_end() {
    let (steps, requests) = scripted(vec![
        Watch(vec![
            event("ADDED", "a", "3"),
            end_of_list("7"),
            event("MODIFIED", "a", "8"),
            event("DELETED", "b", "9"),
        ]),
        Watch(vec![event("ADDED", "c", "10")]),
    ]);
    assert_eq!(first(steps, 6).await, ["begin", "apply a", "listed", "apply a", "delete b", "apply c"]);
    let requests = requests.lock().unwrap();
    assert!(
        requests[0].contains("sendInitialEvents=true") && requests[0].ends_with("resourceVersion="),
        "{}",
        requests[0]
    );
    assert!(requests[1].ends_with("resourceVersion=9") && !requests[1].contains("sendInitial"), "{}", requests[1]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_stream_is_asked_for_pages() {
    for refusal in [400, 422] {
        let (steps, requests) = scripted(vec![
            Json(refusal, status(refusal, "sendInitialEvents is forbidden")),
            page("more", "5", &["a", "b"]),
            page("", "6", &["c"]),
            Watch(vec![event("ADDED", "d", "7")]),
        ]);
        assert_eq!(first(steps, 6).await, ["begin", "apply a", "apply b", "apply c", "listed", "apply d"]);
        let requests = requests.lock().unwrap();
        assert!(requests[1].contains("limit=250") && !requests[1].contains("resourceVersion"), "{}", requests[1]);
        assert!(requests[2].contains("continue=more"), "{}", requests[2]);
        assert!(requests[3].ends_with("resourceVersion=6"), "{}", requests[3]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_leads_to_a_new_list() {
    let list = || vec![event("ADDED", "a", "3"), end_of_list("7")];
    // Told within the watch, and told when it is resumed.
    for expired in [Watch([list(), vec![error(410)]].concat()), Watch(list())] {
        let again = Json(410, status(410, "too old"));
        let within = matches!(&expired, Watch(lines) if lines.len() == 3);
        let answers = if within { vec![expired, Watch(list())] } else { vec![expired, again, Watch(list())] };
        let (steps, _) = scripted(answers);
        assert_eq!(first(steps, 6).await, ["begin", "apply a", "listed", "begin", "apply a", "listed"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_expired_leads_to_a_new_list() {
    let refused = || Json(422, status(422, "cannot stream"));
    let (steps, _) =
        scripted(vec![refused(), page("more", "5", &["a"]), Json(410, status(410, "expired")), page("", "6", &["b"])]);
    let steps = first(steps, 7).await;
    assert_eq!(steps[..2], ["begin", "apply a"]);
    assert!(steps[2].starts_with("failed: "), "{steps:?}");
    assert_eq!(steps[3..], ["begin", "resumed", "apply b", "listed"]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_with_what_to_do_and_tried_again_ever_more_slowly() {
    let forbidden = || Json(403, status(403, "user may not"));
    let mut answers: Vec<Answer> = (0..12).map(|_| forbidden()).collect();
    answers.push(Watch(vec![end_of_list("7")]));
    let (steps, requests) = scripted(answers);
    let start = Instant::now();
    let steps = first(steps, 15).await;
    for step in &steps[..12] {
        assert!(
            step.contains("namespaces") && step.contains("deploy/openelb.yaml") && step.contains("user may not"),
            "{step}"
        );
    }
    assert_eq!(steps[12..], ["begin", "resumed", "listed"]);
    assert_eq!(requests.lock().unwrap().len(), 13);
    let took = start.elapsed();
    assert!(took > PAUSE.1 * 2 && took < PAUSE.1 * 11, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_a_failure() {
    let (steps, _) = scripted(vec![Silence, Watch(vec![end_of_list("7")])]);
    let steps = first(steps, 4).await;
    assert!(steps[0].contains("no answer within"), "{steps:?}");
    assert_eq!(steps[1..], ["begin", "resumed", "listed"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_every_resumption_is_asked_for_a_new_list() {
    let mut answers = vec![Watch(vec![event("ADDED", "a", "900"), end_of_list("900")])];
    answers.extend((0..PATIENCE).map(|_| Json(504, status(504, "Too large resource version"))));
    answers.push(Watch(vec![event("ADDED", "a", "3"), end_of_list("7")]));
    let (steps, _) = scripted(answers);
    let steps = first(steps, 12).await;
    assert_eq!(steps.iter().filter(|step| step.starts_with("failed")).count(), PATIENCE as usize);
    assert_eq!(steps[8..], ["begin", "resumed", "apply a", "listed"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_watch_at_once_is_not_asked_without_pause() {
    let mut answers = vec![Watch(vec![end_of_list("7")])];
    answers.extend((0..100).map(|_| Watch(vec![])));
    answers.push(Watch(vec![event("ADDED", "a", "8")]));
    let start = Instant::now();
    let (steps, _) = scripted(answers);
    assert_eq!(first(steps, 3).await, ["begin", "listed", "apply a"]);
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
}
