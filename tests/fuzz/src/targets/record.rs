//! Records and snapshots: what is decoded is encoded and decoded to the same; folding a log that was cut gives the state
//! of some moment before.

use haul::checkpoint::record::{MAGIC, VERSION, decode_record, decode_snapshot, encode_record, encode_snapshot};
use haul::checkpoint::wal::frame;
use haul::checkpoint::{Binding, Checkpoint, recovery};
use haul::model::object::{Bucket, Fingerprint, Key};

use super::pieces;

pub fn run(input: &[u8]) {
    if let Some(record) = decode_record(input) {
        let bytes = encode_record(&record);
        assert_eq!(decode_record(&bytes).as_ref(), Some(&record));
        assert!(bytes.len() <= 2 * input.len() + 8, "a record does not grow");
    }
    for bytes in [input, &[&MAGIC[..], &VERSION.to_le_bytes(), input].concat()] {
        if let Ok(checkpoint) = decode_snapshot(bytes) {
            let again = encode_snapshot(&checkpoint);
            assert_eq!(decode_snapshot(&again), Ok(checkpoint.clone()));
            assert_eq!(encode_snapshot(&decode_snapshot(&again).expect("read above")), again, "letter by letter");
        }
    }
    a_cut_log(input);
}

/// The input is where the log is cut, two bytes, then records.
fn a_cut_log(input: &[u8]) {
    let Some((cut, records)) = input.split_first_chunk::<2>() else { return };
    let mut checkpoint = begun();
    let mut log = Vec::new();
    frame::push(&mut log, &encode_snapshot(&checkpoint));
    let mut moments = vec![(log.len(), checkpoint.clone())];
    for payload in pieces(records).into_iter().filter(|payload| !payload.is_empty()) {
        let Some(record) = decode_record(payload) else { break };
        frame::push(&mut log, payload);
        checkpoint.apply(record.clone());
        let once = checkpoint.clone();
        checkpoint.apply(record);
        assert_eq!(checkpoint, once, "a fact may be applied again");
        moments.push((log.len(), once));
    }
    log.truncate(moments[0].0 + usize::from(u16::from_le_bytes(*cut)));
    let (bytes, moment) = moments.into_iter().rev().find(|(bytes, _)| *bytes <= log.len()).expect("the first fits");
    // Ids that no address could hold are damage.
    if let Ok(found) = recovery::fold(&log) {
        assert_eq!((found.checkpoint, found.torn_bytes), (moment, (log.len() - bytes) as u64));
    }
}

fn begun() -> Checkpoint {
    let source = Fingerprint { device: 1, inode: 2, bytes: 10, mtime_ns: 1 << 90, ctime_ns: -4 };
    let (bucket, key) = (Bucket::new("demo").expect("a name"), Key::new("key").expect("a name"));
    Checkpoint::new(Binding {
        source,
        endpoint: "https://e".into(),
        bucket,
        key,
        part_bytes: 8 << 20,
        description: Some([].into()),
    })
}
