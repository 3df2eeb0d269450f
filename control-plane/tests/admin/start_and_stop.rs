//! How a control plane starts, why it does not, and how it ends.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use fastgate_control_plane::Server;
use http::Method;
use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::plane::{Plane, settings};

#[tokio::test]
async fn the_owner_token_is_written_once_for_its_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = settings(&folder);
    let file = settings.bootstrap_token_file.clone().expect("a file");
    drop(Server::build(settings.clone()).await.expect("a server"));
    let first = fs::read_to_string(&file).expect("a token");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(first.starts_with("fga_"));
    // An owner exists: nothing is written, also where the file is gone.
    drop(Server::build(settings.clone()).await.expect("a server"));
    assert_eq!(fs::read_to_string(&file).expect("a token"), first);
    fs::remove_file(&file).expect("removed");
    drop(Server::build(settings.clone()).await.expect("a server"));
    assert!(!file.exists());
    // One who can't sign in any more is no owner.
    let database =
        sqlx::SqlitePool::connect(settings.database_url.expose_secret()).await.expect("opens");
    let expire = sqlx::query("UPDATE admin_tokens SET expires_us = 1");
    expire.execute(&database).await.expect("expires");
    drop(Server::build(settings.clone()).await.expect("a server"));
    assert_ne!(fs::read_to_string(&file).expect("a token"), first);
    // No owner yet, but a file is in the way: it is not overwritten.
    let folder = tempfile::tempdir().expect("a folder");
    let settings = crate::plane::settings(&folder);
    let file = settings.bootstrap_token_file.clone().expect("a file");
    fs::write(&file, "precious").expect("written");
    let fault = Server::build(settings).await.err().expect("refused").to_string();
    assert!(fault.contains("remove the file"), "{fault}");
    assert_eq!(fs::read_to_string(&file).expect("a file"), "precious");
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_start_is_said_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut in_use = settings(&folder);
    in_use.admin_addr = taken.local_addr().expect("an address");
    let mut no_database = settings(&folder);
    no_database.database_url = "postgres://user:hidden@127.0.0.1:1/none".into();
    let mut no_file = settings(&folder);
    no_file.database_url = "sqlite:/nowhere/at/all.db".into();
    for (settings, start) in [
        (in_use, "--admin-addr: can't listen on 127.0.0.1:"),
        (no_database, "--database-url: "),
        (no_file, "--database-url: "),
    ] {
        let fault = Server::build(settings).await.err().expect(start).to_string();
        assert!(fault.starts_with(start), "{fault}");
        assert!(!fault.contains('\n') && !fault.contains("hidden"), "{fault}");
    }
}

#[tokio::test]
async fn it_stops_at_once_when_nobody_calls() {
    let plane = Plane::start().await;
    plane.rest(Method::GET, "/health", "").await;
    assert!(plane.stop().await < Duration::from_secs(2));
}

#[tokio::test]
async fn a_call_under_way_is_answered_before_it_stops() {
    let plane = Plane::start().await;
    let mut stream = TcpStream::connect(&plane.address).await.expect("connected");
    let body = r#"{"source_path": "app"}"#;
    let head = format!(
        "POST /admin/keys HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\n\r\n",
        plane.address,
        plane.token,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.flush().await.expect("sent");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stopped = tokio::spawn(plane.stop());
    tokio::time::sleep(Duration::from_millis(200)).await;
    stream.write_all(body.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer, then the end");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(stopped.await.expect("no panic") < Duration::from_secs(2));
}
