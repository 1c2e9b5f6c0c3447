//! A page of a listing: the rows, and where the next ones are (`Link: <…>; rel="next"`, RFC 8288).

use axum::Json;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Rows, and the next page's address when there may be one.
pub(super) struct Page<T> {
    rows: Vec<T>,
    next: Option<String>,
}

impl<T> Page<T> {
    /// A page asked for by `uri`, full at `limit` rows; the next one is asked for by `parameter` with what `of` says of the last row.
    pub(super) fn of(
        rows: Vec<T>,
        limit: i64,
        uri: &Uri,
        parameter: &str,
        of: impl Fn(&T) -> String,
    ) -> Self {
        let full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
        Self::with_more(rows, full, uri, parameter, of)
    }

    /// The same, where it is known whether there are more.
    pub(super) fn with_more(
        rows: Vec<T>,
        more: bool,
        uri: &Uri,
        parameter: &str,
        of: impl Fn(&T) -> String,
    ) -> Self {
        let next = rows.last().filter(|_| more).map(|row| address(uri, parameter, &of(row)));
        Self { rows, next }
    }
}

fn address(uri: &Uri, parameter: &str, value: &str) -> String {
    let kept = uri.query().unwrap_or_default().split('&');
    let kept = kept.filter(|pair| !pair.is_empty() && pair.split('=').next() != Some(parameter));
    let pairs: Vec<String> = kept.map(str::to_owned).chain([format!("{parameter}={value}")]).collect();
    format!("{}?{}", uri.path(), pairs.join("&"))
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.rows).into_response();
        let link = self.next.and_then(|next| HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")).ok());
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_page_names_the_next_and_keeps_what_was_asked() {
        let uri: Uri = "/api/tasks?before=9&status=failed&limit=2".parse().unwrap();
        let page = Page::of(vec![8, 7], 2, &uri, "before", i32::to_string);
        assert_eq!(page.next.as_deref(), Some("/api/tasks?status=failed&limit=2&before=7"));
        assert_eq!(Page::of(vec![8], 2, &uri, "before", i32::to_string).next, None);
    }
}
