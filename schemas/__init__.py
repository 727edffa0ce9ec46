"""The typed requests and answers of the API: what is checked, what is sent, and what the API's description says."""
