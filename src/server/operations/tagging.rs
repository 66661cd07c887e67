//! The tags of an object. They are kept as the header `x-oss-tagging` writes them.

use http::StatusCode;
use percent_encoding::utf8_percent_encode;

use super::body::Incoming;
use super::{Answer, Context, call, headers};
use crate::server::errors::{Code, Failure};
use crate::server::store::Address;
use crate::server::xml::{Document, ENCODED, parse_tagging};

const HEADER: &str = "x-oss-tagging";

pub(super) async fn put_tagging(context: Context<'_>, at: Address, body: &mut Incoming) -> Result<Answer, Failure> {
    let document = body.document(context.request).await?;
    let tags = parse_tagging(&document).map_err(|why| Failure::new(Code::MalformedXML, why))?;
    headers::check_tags(&tags)?;
    let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let pairs: Vec<String> = tags.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    amend(context, at, Some(pairs.join("&"))).await?;
    Ok(Answer::new(StatusCode::OK))
}

pub(super) async fn get_tagging(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let object = context.catalog.object(&at)?;
    let mut xml = Document::new("Tagging");
    xml.open("TagSet");
    for (key, value) in headers::parse_tags(object.header(HEADER).unwrap_or(""))? {
        xml.open("Tag");
        xml.text("Key", &key);
        xml.text("Value", &value);
        xml.close("Tag");
    }
    xml.close("TagSet");
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}

pub(super) async fn delete_tagging(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    amend(context, at, None).await?;
    Ok(Answer::new(StatusCode::NO_CONTENT))
}

async fn amend(context: Context<'_>, at: Address, tags: Option<String>) -> Result<(), Failure> {
    let change = move |catalog: &super::Catalog| catalog.amend_object(&at, |kept| headers::set(kept, HEADER, tags));
    call(context.catalog, change).await.map(drop)
}
