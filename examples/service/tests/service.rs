//! The service on each backend that works here: good, bad and hostile requests at once, a client that disconnects, shutdown.

use std::{
    error::Error,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use vmffi::machine::Backend;

// By its path: the service is a program, and has no library that a test could use.
#[path = "../src/client.rs"]
mod client;

use client::Client;

/// The program. It is killed if the test fails.
struct Service {
    program: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail if the program has ended.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

impl Service {
    /// Starts it on a free port, if the backend works here.
    fn start(backend: Backend, options: &[&str]) -> Option<Self> {
        if let Err(error) = backend.check() {
            println!("skipped: {backend}: {error}");
            return None;
        }
        let mut program = Command::new(env!("CARGO_BIN_EXE_service"))
            .args(["--backend", &backend.to_string(), "--listen", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let mut output = BufReader::new(program.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let address = line.split([' ', ',']).find_map(|word| word.parse().ok());
        Some(Self { program, output, address: address.expect("an address") })
    }

    fn client(&self) -> Client {
        Client::connect(self.address).expect("a connection")
    }

    /// The value of a metric from `/metrics`.
    fn metric(&self, name: &str) -> f64 {
        let (status, text) = self.client().request("GET", "/metrics", b"").expect("metrics");
        assert_eq!(status, 200);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    }

    fn wait_for(&self, name: &str, value: f64) {
        let began = Instant::now();
        while self.metric(name) != value {
            assert!(began.elapsed() < Duration::from_secs(30), "{name} is {}", self.metric(name));
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the program as an operator does.
    fn end(mut self) -> Result<(), Box<dyn Error>> {
        let id = self.program.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status()?.success());
        assert!(self.program.wait()?.success());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest)?;
        assert_eq!(rest, "service: closed\n");
        Ok(())
    }
}

fn every_request_is_answered(backend: Backend) {
    let Some(service) = Service::start(backend, &["--guests", "2", "--cpu-time", "500"]) else {
        return;
    };
    let greedy = format!("[{}1]", r#"{"":0},"#.repeat(35_000));
    let secret = r#"{"b":[1,null,{"C":"akia ghp_ AKIA"}],"ghp_":true}"#;
    let found = r#"{"depth":3,"findings":[{"strings":1,"term":"AKIA"},{"strings":2,"term":"ghp_"}],"values":7}"#;
    let requests: [(&str, &[u8], u16, &str); 8] = [
        ("/parse", secret.as_bytes(), 200, found),
        ("/parse", b"3", 200, r#"{"depth":0,"findings":[],"values":1}"#),
        ("/parse", b"[1,\n 2 3]", 422, r#"{"column":4,"error":"this is not JSON","line":2}"#),
        ("/parse", b"[1,", 422, r#"{"column":3,"error":"the document ends too early","line":1}"#),
        ("/parse", greedy.as_bytes(), 500, r#"{"error":"the document could not be parsed"}"#),
        ("/attack/panic", b"", 500, r#"{"error":"the document could not be parsed"}"#),
        ("/attack/overflow", b"", 500, r#"{"error":"the document could not be parsed"}"#),
        ("/attack/loop", b"", 408, r#"{"error":"the document takes too much time"}"#),
    ];
    const ROUNDS: usize = 3;
    thread::scope(|scope| {
        for (path, body, status, answer) in requests {
            let mut client = service.client();
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let answered = client.request("POST", path, body).expect("an answer");
                    assert_eq!(answered, (status, answer.into()), "{path}");
                }
            });
        }
    });
    // A document that is too long does not reach a guest.
    let (status, _) =
        service.client().request("POST", "/parse", &[b' '; (256 << 10) + 1]).expect("an answer");
    assert_eq!(status, 413);

    let rounds = ROUNDS as f64;
    assert_eq!(service.metric("vmffi_pool_calls_total"), 8.0 * rounds);
    assert_eq!(service.metric(r#"vmffi_pool_exits_total{exit="exited"}"#), 2.0 * rounds);
    assert_eq!(service.metric(r#"vmffi_pool_exits_total{exit="fault"}"#), rounds);
    assert_eq!(service.metric(r#"vmffi_pool_exits_total{exit="cpu_time"}"#), rounds);
    service.wait_for(r#"vmffi_pool_guests{state="idle"}"#, 2.0);
    service.end().expect("an end");
}

/// If a client disconnects, its guest is stopped, and serves the next client long before its limits.
fn a_disconnect_frees_the_guest(backend: Backend) {
    let limits = ["--guests", "1", "--cpu-time", "600000", "--deadline", "600000"];
    let Some(service) = Service::start(backend, &limits) else { return };
    let began = Instant::now();
    // If the client leaves before the call has begun, the call never begins, and no guest is stopped.
    while service.metric(r#"vmffi_pool_exits_total{exit="stopped"}"#) == 0.0 {
        assert!(began.elapsed() < Duration::from_secs(60), "no guest was stopped");
        let mut client = service.client();
        client.send("POST", "/attack/loop", b"").expect("sent");
        service.wait_for(r#"vmffi_pool_guests{state="in_use"}"#, 1.0);
        thread::sleep(Duration::from_millis(10));
        drop(client);
        let (status, _) = service.client().request("POST", "/parse", b"[]").expect("an answer");
        assert_eq!(status, 200);
    }
    service.end().expect("an end");
}

#[test]
fn every_request_is_answered_on_kvm() {
    every_request_is_answered(Backend::Kvm);
}

#[test]
fn every_request_is_answered_in_processes() {
    every_request_is_answered(Backend::Process);
}

#[test]
fn a_disconnect_frees_the_guest_on_kvm() {
    a_disconnect_frees_the_guest(Backend::Kvm);
}

#[test]
fn a_disconnect_frees_the_guest_in_processes() {
    a_disconnect_frees_the_guest(Backend::Process);
}
