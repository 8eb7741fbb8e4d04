//! Frame of a report page: one file that loads no other, light and dark, with tiles, tables and charts.

/// Judgement of a value, shown as a colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Neither good nor bad.
    #[default]
    Plain,
    Good,
    Bad,
}

impl Tone {
    /// Returns the tone for good (`true`) or bad.
    pub(crate) fn of(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

/// Cell of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub text: String,
    pub tone: Tone,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

impl Cell {
    /// Creates a cell with a tone.
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

/// Page that is built from top to bottom.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    title: String,
    body: String,
}

impl Page {
    /// Creates a page with a title and a line below it.
    pub(crate) fn new(title: &str, lead: &str) -> Self {
        let body = format!("<h1>{}</h1><p class=\"lead\">{}</p>", escape(title), escape(lead));
        Self { title: title.to_owned(), body }
    }

    /// Adds a line with the result.
    pub(crate) fn banner(&mut self, tone: Tone, text: &str) -> &mut Self {
        self.push(&format!("<div class=\"banner {}\">{}</div>", tone.class(), escape(text)))
    }

    /// Adds a row of numbers, each with name, value, tone and a remark.
    pub(crate) fn tiles(&mut self, tiles: &[(&str, String, Tone, String)]) -> &mut Self {
        self.push("<div class=\"tiles\">");
        for (name, value, tone, more) in tiles {
            self.push(&format!(
                "<div class=\"tile\"><div class=\"name\">{}</div><div class=\"value {}\">{}</div><div class=\"more\">{}</div></div>",
                escape(name),
                tone.class(),
                escape(value),
                escape(more)
            ));
        }
        self.push("</div>")
    }

    /// Adds a heading.
    pub(crate) fn heading(&mut self, text: &str) -> &mut Self {
        self.push(&format!("<h2>{}</h2>", escape(text)))
    }

    /// Adds a paragraph in small print.
    pub(crate) fn note(&mut self, text: &str) -> &mut Self {
        self.push(&format!("<p class=\"note\">{}</p>", escape(text)))
    }

    pub(crate) fn chart(&mut self, chart: &super::chart::Chart) -> &mut Self {
        self.push(&chart.figure())
    }

    /// Adds a table; the first column is left-aligned.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<Cell>]) -> &mut Self {
        self.push("<div class=\"scroll\"><table><tr>");
        for name in head {
            self.push(&format!("<th>{}</th>", escape(name)));
        }
        for row in rows {
            self.push("</tr><tr>");
            for cell in row {
                self.push(&format!("<td class=\"{}\">{}</td>", cell.tone.class(), escape(&cell.text)));
            }
        }
        self.push("</tr></table></div>")
    }

    /// Adds HTML, which must be well-formed and escaped.
    pub(crate) fn push(&mut self, html: &str) -> &mut Self {
        self.body.push_str(html);
        self
    }

    /// Returns the whole file.
    pub(crate) fn html(&self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{}</title><style>{}</style></head>\n<body>{}</body></html>\n",
            escape(&self.title),
            include_str!("page.css"),
            self.body
        )
    }
}

/// Escapes text for HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_asks_for_nothing_from_elsewhere_and_escapes_what_it_is_given() {
        let mut page = Page::new("a <b>", "lead & more");
        page.tiles(&[("requests", "1".into(), Tone::Good, "<i>".into())])
            .table(&["x"], &[vec!["<td>".into()]]);
        let html = page.html();
        assert!(html.contains("a &lt;b&gt;") && html.contains("&lt;i&gt;") && html.contains("&lt;td&gt;"));
        for request in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!html.contains(request), "{request}");
        }
    }
}
