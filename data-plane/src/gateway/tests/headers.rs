//! What goes to the upstream and what comes back.

use super::node::{Node, Upstream, get, key, open_node, route};

#[test]
fn the_upstream_is_told_what_the_gateway_knows_and_nothing_a_client_made_up() {
    let upstream = Upstream::hello();
    let (record, secret) = key("k1", &[]);
    let node = Node::start(vec![route("r1", "/", &upstream)], vec![record]);
    let spoofs = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
                  X-Source-Path: admin\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\
                  X_Source_Path: admin\r\nX_Forwarded-For: 9.9.9.9\r\nx_api_key: other\r\n\
                  Content_Length: 5\r\nkept_name: yes\r\nX-Forwarded-Prefix: /evil\r\n\
                  X-Forwarded: 1.2.3.4\r\nX-Original-URL: /evil\r\nTrue-Client-IP: 1.2.3.4";
    node.send(&get("/", &format!("x-api-key: {secret}\r\n{spoofs}")));
    let received = upstream.last();
    for (name, values) in [
        ("x-api-key", &[][..]),
        ("authorization", &[]),
        ("x-source-path", &["mobile_app"]),
        ("x-forwarded-for", &["127.0.0.1"]),
        ("x-forwarded-proto", &["http"]),
        ("x-forwarded-host", &["a.b"]),
        ("x-real-ip", &[]),
        ("forwarded", &[]),
        ("x_source_path", &[]),
        ("x_forwarded-for", &[]),
        ("x_api_key", &[]),
        ("content_length", &[]),
        ("kept_name", &["yes"]),
        ("x-forwarded-prefix", &[]),
        ("x-forwarded", &[]),
        ("x-original-url", &[]),
        ("true-client-ip", &[]),
        ("host", &[&*upstream.address.to_string()]),
    ] {
        assert_eq!(received.headers(name), values, "{name}");
    }
}

#[test]
fn a_trusted_proxy_may_speak_for_its_clients() {
    let upstream = Upstream::hello();
    let network = crate::Network::parse("127.0.0.0/8").expect("a network");
    let node = open_node(&upstream, |settings| settings.trusted_proxies = vec![network]);
    node.send(&get(
        "/",
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.2.3.4",
    ));
    let received = upstream.last();
    assert_eq!(received.header("x-forwarded-for"), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    assert_eq!(received.header("x-forwarded-host"), Some("a.b"));
    assert_eq!(received.header("x-real-ip"), Some("1.2.3.4"));
}

#[test]
fn headers_of_the_connection_stay_on_it_and_can_name_none_of_ours_away() {
    let upstream = Upstream::scripted(|_, stream| {
        use std::io::Write as _;
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x-inner\r\nx-inner: 1\r\n\
                    keep-alive: timeout=5\r\nproxy-authenticate: Basic\r\nx-outer: 2\r\n\
                    x-request-id: upstreams\r\nratelimit: \"theirs\";r=1\r\n\r\nok";
        stream.write_all(head.as_bytes()).is_ok()
    });
    let (record, secret) = key("k1", &[]);
    let node = Node::start(vec![route("r1", "/", &upstream)], vec![record]);
    let answer = node.send(&get(
        "/",
        &format!(
            "x-api-key: {secret}\r\nConnection: X-Own, x-request-id, x-source-path, host\r\n\
             X-Own: 1\r\nTE: trailers\r\nUpgrade: websocket\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
             Proxy-Authorization: Basic x\r\nExpect: 100-continue\r\nX-Request-Id: mine-1\r\nAccept: */*"
        ),
    ));
    let received = upstream.last();
    for gone in [
        "connection",
        "x-own",
        "te",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "expect",
    ] {
        assert_eq!(received.header(gone), None, "{gone}");
    }
    assert_eq!(received.header("x-source-path"), Some("mobile_app"));
    assert_eq!(received.header("x-request-id"), Some("mine-1"));
    assert_eq!(received.header("accept"), Some("*/*"));
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    assert_eq!(answer.header("x-outer"), Some("2"));
    for gone in ["x-inner", "keep-alive", "proxy-authenticate", "connection"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
}

#[test]
fn an_answer_says_what_to_switch_to_only_where_it_has_to() {
    for (status, version, passes) in
        [(426, "1.1", true), (426, "1.0", false), (200, "1.1", false), (407, "1.1", false)]
    {
        let upstream = Upstream::scripted(move |_, stream| {
            use std::io::Write as _;
            let head = "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\nUpgrade: x/1\r\n\
                        proxy-authenticate: Basic\r\ncontent-length: 0";
            write!(stream, "HTTP/1.1 {status} So\r\n{head}\r\n\r\n").is_ok()
        });
        let node = open_node(&upstream, |_| {});
        let mut client = node.connect();
        client.write(&format!("GET / HTTP/{version}\r\nhost: a\r\nconnection: close\r\n\r\n"));
        let mut answer = String::new();
        std::io::Read::read_to_string(client.stream(), &mut answer).expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} So\r\n")), "{answer}");
        let upgrade = "\r\nUpgrade: websocket, h2c\r\nUpgrade: x/1\r\nconnection: upgrade\r\n";
        assert_eq!(answer.contains(upgrade), passes, "{answer}");
        assert_eq!(answer.to_lowercase().contains("upgrade:"), passes, "{answer}");
        assert_eq!(answer.matches("\r\nconnection: close\r\n").count(), 1, "{answer}");
        assert!(!answer.contains("proxy-authenticate"), "{answer}");
    }
}

#[test]
fn a_connection_header_with_strange_bytes_still_names_what_it_names() {
    use std::io::Write as _;

    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let mut client = node.connect();
    let head = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: x-own, \xff\r\nx-own: 1\r\n\r\n";
    client.stream().get_mut().write_all(head).expect("written");
    assert_eq!(client.read(false).status, 200);
    assert_eq!(upstream.last().header("x-own"), None);
}

#[test]
fn answers_are_given_in_the_clients_version() {
    let upstream = Upstream::scripted(|_, stream| {
        use std::io::Write as _;
        drop(stream.write_all(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"));
        false
    });
    let node = open_node(&upstream, |_| {});
    let mut client = node.connect();
    for _ in 0..2 {
        let answer = client.send(&get("/", ""));
        assert_eq!((answer.status, &*answer.body), (200, "ok"));
        assert_eq!(answer.header("connection"), None);
    }
}

#[test]
fn request_ids_that_could_do_harm_are_replaced() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let long = "x".repeat(65);
    for (sent, kept) in [
        ("abc-123", true),
        (&long[..64], true),
        (&long, false),
        ("a b", false),
        ("a\"b", false),
        ("", false),
        ("one\r\nX-Request-Id: two", false),
    ] {
        let answer = node.send(&get("/", &format!("X-Request-Id: {sent}")));
        let id = answer.header("x-request-id").expect("an id").to_owned();
        assert_eq!(id == sent, kept, "{sent}");
        assert_eq!(upstream.last().headers("x-request-id"), [&*id]);
        // A new one is a UUID of version 7.
        assert!(kept || (id.len() == 36 && id.as_bytes()[14] == b'7'), "{id}");
    }
}

#[test]
fn two_keys_in_one_request_are_refused_and_a_foreign_authorization_passes() {
    let upstream = Upstream::hello();
    let (record, secret) = key("k1", &[]);
    let node = Node::start(vec![route("r1", "/", &upstream)], vec![record]);
    let send = |headers: String| node.send(&get("/", &headers)).status;
    assert_eq!(send(format!("x-api-key: {secret}\r\nx-api-key: {secret}")), 400);
    assert_eq!(send(format!("x-api-key: {secret}\r\nauthorization: Bearer {secret}")), 400);
    assert_eq!(
        send(format!("authorization: Bearer {secret}\r\nauthorization: Bearer {secret}")),
        400
    );
    assert!(upstream.received().is_empty());
    assert_eq!(send(format!("x-api-key: {secret}\r\nauthorization: Bearer eyJ.x.y")), 200);
    assert_eq!(upstream.last().header("authorization"), Some("Bearer eyJ.x.y"));
    assert_eq!(send("authorization: Basic eDp5".into()), 401);
}

#[test]
fn a_key_is_not_passed_on_even_where_none_is_asked_for() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let (_, secret) = key("k1", &[]);
    for sent in [
        format!("x-api-key: {secret}"),
        format!("authorization: Bearer {secret}"),
        format!("authorization: bearer\t{secret}"),
    ] {
        assert_eq!(node.send(&get("/", &sent)).status, 200);
        let received = upstream.last();
        assert_eq!(received.header("x-api-key"), None);
        assert_eq!(received.header("authorization"), None);
    }
}
