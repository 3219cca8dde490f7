//! Instruction counts: from a client's packet to its event. See `plugnode_testing::counted`.

use socketioxide_core::Str;

use crate::codec::{Codec, Encoding, PartialPacket};
use crate::incoming::PacketContent;
use plugnode_message::{Payload, Text};
use plugnode_testing::counted::payload;

#[test]
fn packets_that_clients_send() {
    let packets: Vec<Str> = (0..256)
        .map(|number| {
            let args = payload(number).json;
            Str::from(format!("2/chat,{number}[\"say\",{}", &args[1..]))
        })
        .collect();
    let read = counted_packets_that_clients_send(&Codec::new(Encoding::Json, 1_000), packets);
    assert_eq!(read.len(), 256);
    assert_eq!(read[7], (Text::from_static("say"), payload(7)));
}

#[inline(never)]
fn counted_packets_that_clients_send(codec: &Codec, packets: Vec<Str>) -> Vec<(Text, Payload)> {
    let partial = PartialPacket::default();
    let mut events = Vec::with_capacity(packets.len());
    for packet in packets {
        let read = codec.read_text(&partial, packet).expect("a valid packet");
        let PacketContent::Event(payload, Some(_)) = read.expect("a complete packet").content else {
            panic!("not an event that asks for an acknowledgement");
        };
        events.push(payload.into_event().expect("a valid event"));
    }
    events
}
