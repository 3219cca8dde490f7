//! Streams over real sockets, with arbitrary pieces and pauses: each byte arrives once and in order.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::http::first_request::{self, FirstRequest};
use crate::http::testing::pair;
use plugnode_testing::arbitrary::{bytes, cuts, pieces, run};

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_with_any_pieces_and_pauses(
        sent in vec(bytes(2_000), 0..8),
        cuts in cuts(),
        reads in vec((any::<bool>(), 1_usize..600), 0..30),
    ) {
        let sent = sent.concat();
        let expected = sent.clone();
        let read = run(async move {
            let (mut stream, mut peer) = pair().await;
            let send = async {
                for piece in pieces(&[HEAD, &sent].concat(), &cuts) {
                    peer.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                peer.shutdown().await.unwrap();
            };
            let receive = async {
                let FirstRequest { mut bytes, handshake } = first_request::read(&mut stream).await.unwrap();
                let (_, length) = handshake.expect("it asks for a WebSocket");
                assert_eq!(bytes.split_to(length), HEAD);
                stream.put_back(bytes);
                let mut read = Vec::new();
                for (is_paused, size) in reads {
                    let connection = stream.connection().clone();
                    let mut buffer = vec![0; size];
                    if is_paused {
                        connection.pause();
                        let reading = timeout(Duration::from_millis(1), stream.read(&mut buffer));
                        assert!(reading.await.is_err(), "nothing is read during a pause");
                        connection.resume();
                    } else {
                        let got = stream.read(&mut buffer).await.unwrap();
                        read.extend_from_slice(&buffer[..got]);
                    }
                }
                stream.read_to_end(&mut read).await.unwrap();
                read
            };
            tokio::join!(send, receive).1
        });
        prop_assert_eq!(read, expected);
    }
}
