"""What all pages share: requests, sessions, responses, cookies, forms, languages and looks."""
