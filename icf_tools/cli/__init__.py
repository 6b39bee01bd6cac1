"""Commands: parse, call one function, print. Nothing else imports from here."""
