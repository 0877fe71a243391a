//! Waiting for something to listen: how it is found out that a job's service is up.

use crate::store::failed;
use springtide_helper::{Fault, FaultKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Between two looks at all places.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest one place may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Waits until one of these places, `HOST:PORT` each, takes a connection.
pub(crate) fn wait(places: &[&str], limit: Duration) -> Result<(), Fault> {
    let until = Instant::now() + limit;
    loop {
        let mut why = Vec::new();
        for place in places {
            match connect(place) {
                Ok(()) => return Ok(()),
                Err(error) => why.push(format!("{place}: {error}")),
            }
        }
        if Instant::now() + PAUSE > until {
            return Err(failed(
                format!("waiting {} s for a connection", limit.as_secs()),
                why.join("; "),
            ));
        }
        std::thread::sleep(PAUSE);
    }
}

fn connect(place: &str) -> std::io::Result<()> {
    let mut last = std::io::Error::other("it has no address");
    for address in place.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ANSWER) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The places and the limit of a call.
pub(crate) fn arguments<'a>(words: &'a [&'a str]) -> Result<(&'a [&'a str], Duration), Fault> {
    let bad = || {
        Fault::new(
            FaultKind::BadCall,
            "wait takes --timeout SECONDS and one HOST:PORT or more",
        )
    };
    match words {
        ["--timeout", seconds, places @ ..] if !places.is_empty() => {
            let seconds = seconds.parse().map_err(|_| bad())?;
            Ok((places, Duration::from_secs(seconds)))
        }
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_that_answers_is_enough_and_none_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let open = listener.local_addr().expect("its address").to_string();
        let closed = {
            let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            gone.local_addr().expect("its address").to_string()
        };
        assert_eq!(wait(&[&closed, &open], Duration::from_secs(5)), Ok(()));
        let why = wait(&[&closed], Duration::ZERO).expect_err("nobody is there");
        assert!(why.message.contains(&closed), "{why}");
        assert!(arguments(&["--timeout", "3"]).is_err());
        let words = ["--timeout", "3", "a:1"];
        let read = arguments(&words).expect("good");
        assert_eq!(read, (&["a:1"][..], Duration::from_secs(3)));
    }
}
