"""Other chat models, asked over a server on this machine; nothing of it is needed to test ours."""
