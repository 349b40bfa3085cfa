//! The metrics of the proxy of docker-compose.yml, as Caddy 2.6 gave them there, without those that nobody asks for. The
//! tests need no Caddy for that; `make compose-test` has a real one.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

const RECORDED: &str = include_str!("caddy_metrics.txt");

/// Answers with them until the process ends, and says where: `127.0.0.1:<port>`.
pub fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The head of the question, which is always the same one.
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close";
            write!(stream, "{head}\r\n\r\n{RECORDED}").ok();
        }
    });
    address
}
