//! Documents that clients send: what is read is written and read to the same, and never more than was sent.

use haul::server::outside::{Body, body};

pub fn run(input: &[u8]) {
    let Some(read) = body(input) else { return };
    let text_bytes: usize = match &read {
        Body::Complete(parts) => parts.iter().map(|(_, etag)| etag.len()).sum(),
        Body::Delete { keys, .. } => keys.iter().map(String::len).sum(),
        Body::Tagging(tags) => tags.iter().map(|(name, value)| name.len() + value.len()).sum(),
        Body::CreateBucket(class, redundancy) => [class, redundancy].into_iter().flatten().map(String::len).sum(),
    };
    assert!(text_bytes <= input.len(), "{text_bytes} bytes of text in a document of {}", input.len());
    assert_eq!(body(read.write().as_bytes()).as_ref(), Some(&read));
}
