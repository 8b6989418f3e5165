"""The answers that PROTOCOL.md prescribes, word for word."""

LINE_LIMIT = 1024
TOO_LONG = "! line too long (limit 1024 bytes)"
NOT_UTF8 = "! not valid UTF-8"
CONTROL_CHARACTERS = "! control characters are not allowed"
INVALID_NAME = "! invalid name (1-20 letters, digits, _ or -)"
WORK_USAGE = "! usage: /work MS (1-1000)"
PM_USAGE = "! usage: /pm NAME TEXT"
IDLE_TIMEOUT = "! idle timeout"
SERVER_FULL = "! server full"
NOT_A_WEB_SERVER = "! this is not a web server"
SHUTTING_DOWN = "* server shutting down"
