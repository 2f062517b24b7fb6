# body: a page of HTML as source, from <body on: what stands before says nothing of the page.
/^\001/ { print; on = 0; next }
on { print; next }
(at = index(tolower($0), "<body")) > 0 { on = 1; print substr($0, at) }
