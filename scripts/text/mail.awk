# mail: messages: the subject and the body; base64 bodies go.
/^\001/ { print; head = 1; base64 = 0; next }
head && /^[Ss]ubject: / { print substr($0, 10) "\n" }
head && /^[Cc]ontent-[Tt]ransfer-[Ee]ncoding: *base64/ { base64 = 1 }
head { if ($0 == "") head = 0; next }
!base64 && (length($0) < 60 || /[^A-Za-z0-9+\/=]/) { print }
