"""The reference collector at central ops: it keeps each message once and acknowledges it."""
