//! What goes over the wire: read from requests, written into answers.

use acmekit_conformance::api::{Answer, Asked};

use super::{ROLE_KEY_ID, ROLE_SECRET, ROLE_TOKEN, Records};

const NS: &str = "xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"";

/// A record set of a request.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) ttl: Option<i64>,
    pub(crate) values: Vec<String>,
}

impl Set {
    /// Whether it names exactly what is there; the order of the values does not count.
    pub(crate) fn is(&self, there: &Records) -> bool {
        let sorted = |values: &[String]| {
            let mut values = values.to_vec();
            values.sort();
            values
        };
        self.ttl == Some(there.ttl)
            && there.set_identifier.is_none()
            && sorted(&self.values) == sorted(&there.values)
    }
}

pub(crate) fn changes(body: &str) -> Vec<(String, Set)> {
    let change = |xml: &&str| {
        let first = |tag: &str| elements(xml, tag).first().map(|text| unescape(text));
        let name = first("Name").unwrap();
        let set = Set {
            name: if name.ends_with('.') { name } else { name + "." },
            kind: first("Type").unwrap(),
            ttl: first("TTL").map(|text| text.parse().unwrap()),
            values: elements(xml, "Value").iter().map(|text| unescape(text)).collect(),
        };
        (first("Action").unwrap(), set)
    };
    elements(body, "Change").iter().map(change).collect()
}

/// Strings in quotes, of at most 255 octets, with blanks between.
pub(crate) fn is_quoted(value: &str) -> bool {
    let (mut octets, mut strings) = (value.bytes().peekable(), 0);
    while octets.peek().is_some() {
        if octets.next() != Some(b'"') {
            return false;
        }
        let mut length = 0;
        loop {
            match octets.next() {
                Some(b'"') => break,
                Some(b'\\') => {
                    let digits = std::iter::from_fn(|| octets.next_if(u8::is_ascii_digit)).take(3).count();
                    if digits == 0 {
                        octets.next();
                    } else if digits != 3 {
                        return false;
                    }
                }
                Some(octet) if (b' '..=b'~').contains(&octet) => {}
                _ => return false,
            }
            length += 1;
        }
        strings += 1;
        if length > 255 || !matches!(octets.next(), None | Some(b' ')) {
            return false;
        }
    }
    strings > 0
}

pub(crate) fn answer(status: u16, body: String) -> Answer {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
    Answer::new(status, body)
        .with("content-type", "text/xml")
        .with("x-amzn-requestid", "b25f48e8-84fd-11e6-80d9-574e0c4664cb")
}

pub(crate) fn error(status: u16, code: &str, message: &str) -> Answer {
    let message = escape(message);
    answer(
        status,
        format!(
            "<ErrorResponse {NS}><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             <RequestId>b25f48e8-84fd-11e6-80d9-574e0c4664cb</RequestId></ErrorResponse>"
        ),
    )
}

pub(crate) fn invalid_change_batch(message: &str) -> Answer {
    error(400, "InvalidChangeBatch", message)
}

fn hosted_zone((id, name, private): &(String, String, bool)) -> String {
    format!(
        "<HostedZone><Id>/hostedzone/{id}</Id><Name>{name}</Name><CallerReference>2026-11-21</CallerReference>\
         <Config><PrivateZone>{private}</PrivateZone></Config><ResourceRecordSetCount>2</ResourceRecordSetCount></HostedZone>"
    )
}

pub(crate) fn list_hosted_zones(zones: &[(String, String, bool)], from: usize, page: usize) -> Answer {
    let listed: String = zones.iter().skip(from).take(page).map(hosted_zone).collect();
    let next = match zones.get(from + page) {
        Some((id, ..)) => format!("<IsTruncated>true</IsTruncated><NextMarker>{id}</NextMarker>"),
        None => "<IsTruncated>false</IsTruncated>".to_owned(),
    };
    answer(
        200,
        format!(
            "<ListHostedZonesResponse {NS}><HostedZones>{listed}</HostedZones>{next}<MaxItems>{page}</MaxItems>\
             </ListHostedZonesResponse>"
        ),
    )
}

pub(crate) fn get_hosted_zone(zone: &(String, String, bool)) -> Answer {
    answer(200, format!("<GetHostedZoneResponse {NS}>{}</GetHostedZoneResponse>", hosted_zone(zone)))
}

/// They are ordered by the labels of the name, the last one first, and the type.
pub(crate) fn list_records(all: &[Records], zone: &str, name: &str, kind: &str, max: &str) -> Answer {
    let key = |name: &str, kind: &str| {
        let mut labels: Vec<String> = name.trim_end_matches('.').split('.').map(str::to_owned).collect();
        labels.reverse();
        (labels, kind.to_owned())
    };
    let mut sets: Vec<&Records> =
        all.iter().filter(|it| it.zone == zone && key(&it.name, &it.kind) >= key(name, kind)).collect();
    sets.sort_by_key(|it| key(&it.name, &it.kind));
    sets.truncate(max.parse().unwrap());
    let one = |it: &&Records| {
        let policy = match &it.set_identifier {
            Some(id) => format!("<SetIdentifier>{id}</SetIdentifier><Weight>1</Weight>"),
            None => String::new(),
        };
        let values: String = it
            .values
            .iter()
            .map(|value| format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", escape(value)))
            .collect();
        format!(
            "<ResourceRecordSet><Name>{}</Name><Type>{}</Type>{policy}<TTL>{}</TTL><ResourceRecords>{values}\
             </ResourceRecords></ResourceRecordSet>",
            it.name, it.kind, it.ttl
        )
    };
    let listed: String = sets.iter().map(one).collect();
    answer(
        200,
        format!(
            "<ListResourceRecordSetsResponse {NS}><ResourceRecordSets>{listed}</ResourceRecordSets>\
             <IsTruncated>false</IsTruncated><MaxItems>{max}</MaxItems></ListResourceRecordSetsResponse>"
        ),
    )
}

pub(crate) fn change_info(root: &str, id: &str, done: bool) -> Answer {
    let status = if done { "INSYNC" } else { "PENDING" };
    answer(
        200,
        format!(
            "<{root} {NS}><ChangeInfo><Id>/change/{id}</Id><Status>{status}</Status>\
             <SubmittedAt>2026-11-21T01:36:41.958Z</SubmittedAt></ChangeInfo></{root}>"
        ),
    )
}

pub(crate) fn assume_role(asked: &Asked) -> Answer {
    let ns = "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"";
    let wanted = [
        "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Facme",
        "RoleSessionName=renewals",
        "ExternalId=the-id",
    ];
    if !wanted.iter().all(|part| asked.body.split('&').any(|pair| pair == *part)) {
        return Answer::new(
            403,
            format!(
                "<ErrorResponse {ns}><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User: \
                 arn:aws:iam::123456789012:user/acme is not authorized to perform: sts:AssumeRole</Message></Error>\
                 <RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ErrorResponse>"
            ),
        )
        .with("content-type", "text/xml");
    }
    Answer::new(
        200,
        format!(
            "<AssumeRoleResponse {ns}><AssumeRoleResult><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/acme/renewals\
             </Arn><AssumedRoleId>ARO123EXAMPLE123:renewals</AssumedRoleId></AssumedRoleUser><Credentials>\
             <AccessKeyId>{ROLE_KEY_ID}</AccessKeyId><SecretAccessKey>{ROLE_SECRET}</SecretAccessKey>\
             <SessionToken>{ROLE_TOKEN}</SessionToken><Expiration>2099-11-09T13:34:41Z</Expiration></Credentials>\
             </AssumeRoleResult><ResponseMetadata><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId>\
             </ResponseMetadata></AssumeRoleResponse>"
        ),
    )
    .with("content-type", "text/xml")
}

fn elements<'a>(xml: &'a str, tag: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    xml.split(&open).skip(1).filter_map(|rest| rest.split_once(&close)).map(|(text, _)| text).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn unescape(text: &str) -> String {
    let plain = text.replace("&quot;", "\"").replace("&apos;", "'").replace("&lt;", "<").replace("&gt;", ">");
    plain.replace("&amp;", "&")
}
