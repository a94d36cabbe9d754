mod size;

use super::server::{answer_all, listen};
use super::*;
use crate::program::tests::{KEEP_ALL, Kernel, program, wanted};
use crate::state::State;
use crate::watch::{Object, ObjectName, Seen};
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use portreeve_ask::{Body, LONGEST_REQUEST, Reply};
use portreeve_table::{BackendKind, PodFlows, Protocol, ServiceKey};
use serde_json::{Value, json};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, process};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// A socket in a folder of its own, gone with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("portreeve-ask-{}-{name}", process::id())))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn put(state: &mut State, name: &str, object: Value) {
    let name = ObjectName { namespace: "shop".into(), name: name.into() };
    let object = match object["kind"].as_str().unwrap() {
        "Service" => Object::Service(Box::new(serde_json::from_value(object).unwrap())),
        "ServiceTraffic" => {
            Object::ServiceTraffic(Box::new(DeserializeGuard(Ok(serde_json::from_value(object).unwrap()))))
        }
        other => panic!("{other}"),
    };
    state.take(Seen::Put(name, object));
}

/// What an agent knows that claims shop/web and leaves shop/other, and a kernel that has it.
fn known() -> (State, crate::program::Program, Arc<Mutex<Kernel>>) {
    let (mut state, kernel) = (State::of_node("n1"), Arc::default());
    for (name, port) in [("web", 30_080), ("other", 30_081)] {
        put(
            &mut state,
            name,
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
                "spec": {"type": "NodePort", "externalTrafficPolicy": "Local", "clusterIP": "10.96.0.1",
                         "ports": [{"port": 80, "nodePort": port}]},
            }),
        );
    }
    put(
        &mut state,
        "web",
        json!({
            "apiVersion": "portreeve.io/v1alpha1", "kind": "ServiceTraffic", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"mode": "Local"},
        }),
    );
    let mut program = program(&kernel);
    let table = &state.compiled().table;
    program.round(&wanted(BackendKind::Nftables), table, KEEP_ALL, Instant::now()).unwrap();
    (state, program, kernel)
}

/// A client of a server whose main loop answers from what it knows.
struct Conversation {
    stream: UnixStream,
    kernel: Arc<Mutex<Kernel>>,
    socket: PathBuf,
    _place: Place,
}

impl Conversation {
    async fn begin(name: &str) -> Self {
        let place = Place::new(name);
        let socket = place.socket();
        let listener = listen(&socket).unwrap();
        let (requests, mut asked) = mpsc::channel::<Asked>(1);
        tokio::spawn(async move { answer_all(&listener, "n1", &requests).await });
        let (state, mut program, kernel) = known();
        tokio::spawn(async move {
            let clock = Clock { instant: Instant::now(), time: Timestamp::UNIX_EPOCH };
            while let Some(Asked { request, answer: to }) = asked.recv().await {
                let _ = to.send(answer(&request, &state, &mut program, clock));
            }
        });
        Self { stream: UnixStream::connect(&socket).await.unwrap(), kernel, socket, _place: place }
    }

    async fn say(&mut self, line: &str) -> Reply {
        self.stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.hear().await.unwrap()
    }

    async fn hear(&mut self) -> Option<Reply> {
        let mut line = String::new();
        BufReader::new(&mut self.stream).read_line(&mut line).await.unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    async fn ask(&mut self, request: &Request) -> Result<Answer, String> {
        let reply = self.say(&request.line()).await;
        assert_eq!((reply.version, &*reply.node), (portreeve_ask::VERSION, "n1"));
        match reply.body {
            Body::Answer(answer) => Ok(answer),
            Body::Error(why) => Err(why),
        }
    }
}

#[tokio::test]
async fn each_question_has_its_answer_in_one_conversation() {
    let mut talk = Conversation::begin("questions").await;
    let web = ServiceKey::new("shop", "web");
    let pod = PodFlows { protocol: Protocol::Tcp, pod: "10.244.1.5:8080".parse().unwrap(), flows: 12 };
    talk.kernel.lock().unwrap().flows.insert(web.clone(), vec![pod]);
    let flows = |service: &str| Request::Flows { service: service.to_owned() };
    let Answer::Flows(first) = talk.ask(&flows("shop/web")).await.unwrap() else { panic!() };
    assert_eq!((first.pods[0].flows, &*first.pods[0].protocol), (12, "tcp"));
    let Answer::Flows(second) = talk.ask(&flows("shop/web")).await.unwrap() else { panic!() };
    assert_eq!(first, second, "the same time is told the same way");
    let why = talk.ask(&flows("shop/other")).await.unwrap_err();
    assert!(why.starts_with("nothing is counted here: shop/other is left to kube-proxy"), "{why}");

    let all = Request::Table { services: vec![], after: None };
    let Answer::Table(page) = talk.ask(&all).await.unwrap() else { panic!() };
    assert_eq!(page.services.keys().collect::<Vec<_>>(), ["shop/web"]);
    assert_eq!(page.services["shop/web"].ports["/tcp/IPv4"].standing, "Nowhere");
    let behind = Request::Table { services: vec![], after: Some("shop/web".to_owned()) };
    let Answer::Table(page) = talk.ask(&behind).await.unwrap() else { panic!() };
    assert_eq!((page.services.len(), page.more_after), (0, None));

    let Answer::ReadBack(read) = talk.ask(&Request::ReadBack {}).await.unwrap() else { panic!() };
    assert_eq!(read.differences, []);
    talk.kernel.lock().unwrap().lose(&web);
    let Answer::ReadBack(read) = talk.ask(&Request::ReadBack {}).await.unwrap() else { panic!() };
    assert_eq!(read.differences[0].service.as_deref(), Some("shop/web"));
}

#[tokio::test]
async fn a_bad_request_is_told_and_does_not_end_the_conversation() {
    let mut talk = Conversation::begin("bad").await;
    let Body::Error(why) = talk.say("what is up?").await.body else { panic!() };
    assert!(why.starts_with("a request is one line of JSON"), "{why}");
    let Body::Error(why) = talk.say(r#"{"ask":"repair","version":7}"#).await.body else { panic!() };
    assert!(why.contains("version"), "{why}");
    talk.ask(&Request::ReadBack {}).await.unwrap();
    let endless = "x".repeat(LONGEST_REQUEST);
    talk.stream.write_all(endless.as_bytes()).await.unwrap();
    let Some(Reply { body: Body::Error(why), .. }) = talk.hear().await else { panic!() };
    assert_eq!(why, format!("a request has at most {LONGEST_REQUEST} bytes"));
    assert_eq!(talk.hear().await, None, "it is closed");
}

#[tokio::test]
async fn clients_are_answered_one_after_another_and_a_silent_one_is_cut_off() {
    let mut silent = Conversation::begin("silent").await;
    let mut second = UnixStream::connect(&silent.socket).await.unwrap();
    second.write_all(format!("{}\n", Request::ReadBack {}.line()).as_bytes()).await.unwrap();
    let began = Instant::now();
    let mut line = String::new();
    BufReader::new(&mut second).read_line(&mut line).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(4), "the first was heard out: {:?}", began.elapsed());
    assert!(line.contains("read-back"), "{line}");
    let Some(Reply { body: Body::Error(why), .. }) = silent.hear().await else { panic!() };
    assert_eq!(why, "no request within 5 s");
}

#[tokio::test]
async fn the_socket_is_the_users_own_and_what_a_killed_agent_left_is_replaced() {
    let place = Place::new("own");
    let first = listen(&place.socket()).unwrap();
    let meta = fs::metadata(place.socket()).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&place.0).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(listen(&place.socket()).unwrap_err().to_string().starts_with("another agent listens at"));
    drop(first);
    listen(&place.socket()).unwrap();
}
