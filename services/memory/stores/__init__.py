"""Where episodes lie: one protocol (`base`), two implementations (`sqlite`, `mongo`)."""
