"""The audit events of a box: the event, the meaning of the record's value, and the action to take.

An audit record (`wire.messages.Audit`) has one of these words as its `event`. A box of this version sends no others;
boxes of other versions may, so that readers accept any lower-case word with hyphens. `make golden` writes
docs/reference/audit-events.md from the docstrings.
"""

from __future__ import annotations

from enum import StrEnum


class AuditEvent(StrEnum):
    """An audit event. Each docstring says what happened, then `Value:` with the unit, if any, then `Action:`."""

    STARTED = "started"
    """The box program started after a clean stop, or for the first time. Action: Nothing."""

    STARTED_AFTER_CRASH = "started-after-crash"
    """The box program started after a crash or a power failure; the spool was recovered. Action: If it
    repeats, check the power supply and the system's journal."""

    ALIVE = "alive"
    """Heartbeat: the box is running and had nothing else to report. Action: Nothing."""

    FIPS_IN_FORCE = "fips-in-force"
    """The site requires FIPS mode, and the self-test at the start of the box program has passed. Action: Nothing."""

    FIPS_FAILED_KERNEL = "fips-failed-kernel"
    """The site requires FIPS mode, and the kernel is not in it; the box serves no instrument and makes no
    connection. Action: Start the kernel with fips=1."""

    FIPS_FAILED_PROVIDER = "fips-failed-provider"
    """The site requires FIPS mode, and OpenSSL has no working FIPS provider; the box serves no instrument and
    makes no connection. Action: Run `rap box status`; it shows the reason. Install OpenSSL again."""

    FIPS_FAILED_DEFAULT = "fips-failed-default"
    """The site requires FIPS mode, and OpenSSL does not use its FIPS provider by default; the box serves no
    instrument and makes no connection. Action: Run `rap box status`; it shows the reason. Correct
    openssl.cnf."""

    FIPS_FAILED_REFUSALS = "fips-failed-refusals"
    """The site requires FIPS mode, and OpenSSL offers algorithms that are not approved; the box serves no
    instrument and makes no connection. Action: Run `rap box status`; it shows the algorithms. Correct
    openssl.cnf."""

    FIPS_FAILED_PYTHON = "fips-failed-python"
    """The site requires FIPS mode, and hashes or TLS of Python are not those of the system's OpenSSL; the box
    serves no instrument and makes no connection. Action: Use the distribution's Python."""

    FIPS_FAILED_CRYPTOGRAPHY = "fips-failed-cryptography"
    """The site requires FIPS mode, and the Python package cryptography has its own OpenSSL; the box serves
    no instrument and makes no connection. Action: Install the distribution's package."""

    FIPS_FAILED_ANSWERS = "fips-failed-answers"
    """The site requires FIPS mode, and an algorithm gave a wrong result or none; the box serves no instrument
    and makes no connection. Action: Run `rap box status`; it shows the algorithm. If all other checks pass,
    replace the machine."""

    PORT_NOT_SERVED = "port-not-served"
    """The TCP port of an instrument port could not be opened; the box tries again. Action: Check the address
    and the TCP port in box.toml, and whether another program uses them."""

    PART_FAILED_SPOOL_WATCH = "part-failed-spool-watch"
    """The part `spool-watch` of the box program failed with an internal error; it starts again. Action:
    Report it with the traceback in the system's journal."""

    PART_FAILED_SPOOL_REFUSALS = "part-failed-spool-refusals"
    """The part `spool-refusals` of the box program failed with an internal error; it starts again. Action:
    Report it with the traceback in the system's journal."""

    PART_FAILED_BOUNDS = "part-failed-bounds"
    """The part `bounds` of the box program failed with an internal error; it starts again. Action: Report it
    with the traceback in the system's journal."""

    PART_FAILED_WATCHDOG = "part-failed-watchdog"
    """The part `watchdog` of the box program failed with an internal error; it starts again. Action: Report
    it with the traceback in the system's journal."""

    PART_FAILED_CERTIFICATE = "part-failed-certificate"
    """The part `certificate` of the box program failed with an internal error; it starts again. Action:
    Report it with the traceback in the system's journal."""

    PART_FAILED_RENEWAL = "part-failed-renewal"
    """The part `renewal` of the box program failed with an internal error; it starts again. Action:
    Report it with the traceback in the system's journal."""

    PART_FAILED_UPDATES = "part-failed-updates"
    """The part `updates` of the box program failed with an internal error; it starts again. Action: Report it
    with the traceback in the system's journal."""

    PART_FAILED_FIREWALL = "part-failed-firewall"
    """The part `firewall` of the box program failed with an internal error; it starts again. Action: Report
    it with the traceback in the system's journal."""

    PART_FAILED_FORWARDER = "part-failed-forwarder"
    """The part `forwarder` of the box program failed with an internal error; it starts again. Action: Report
    it with the traceback in the system's journal."""

    PART_FAILED_COMMANDS = "part-failed-commands"
    """The part `commands` of the box program failed with an internal error; it starts again. Action: Report
    it with the traceback in the system's journal."""

    PART_FAILED_COUNTS = "part-failed-counts"
    """The part `counts` of the box program failed with an internal error; it starts again. Action: Report it
    with the traceback in the system's journal."""

    PART_FAILED_AUDIT_LOG = "part-failed-audit-log"
    """The part `audit-log` of the box program failed with an internal error; it starts again, and no line is lost.
    Action: Report it with the traceback in the system's journal."""

    PART_FAILED_SESSIONS = "part-failed-sessions"
    """The part `sessions` of the box program failed with an internal error; remote sessions were ended, and it starts
    again. Action: Report it with the traceback in the system's journal."""

    SESSION_LOG_UNUSABLE = "session-log-unusable"
    """The audit file of remote sessions cannot be read or written, or was changed; the box refuses sessions, and
    tries again every minute. Action: See the reason in the system's journal; keep the file as evidence before you
    move it."""

    SESSION_LOG_CHANGED = "session-log-changed"
    """Lines of the audit file of remote sessions were changed or removed after they had been read. Value: missing
    bytes, or files. Action: Find out who changed the file; the lines that were read are stored."""

    SESSION_LOG_REPEATED = "session-log-repeated"
    """A power failure or a failed disk destroyed stored lines of the audit file of remote sessions. They are read
    again; the data center detects those that it has. Action: Nothing; check the disk if it repeats."""

    SESSION_LOG_UNREADABLE = "session-log-unreadable"
    """The audit file of remote sessions cannot be read; the box tries again every minute. Action: See the reason in
    the system's journal."""

    PART_FAILED_PORT = "part-failed-port"
    """The part `port` of the box program failed with an internal error; it starts again. Action: Report it
    with the traceback in the system's journal."""

    AUDIT_REFUSED = "audit-refused"
    """The spool refused audit records, which are lost. Value: records. Action: See the reason in the audit records
    before and after it, such as `spool-full`."""

    AUDIT_LOG_CUT = "audit-log-cut"
    """A file of the operating system's audit log became shorter than the part that was read. Value: missing bytes.
    Action: Nothing after a power failure; otherwise find out who changed it. The lines that were read are stored."""

    AUDIT_LOG_CHANGED = "audit-log-changed"
    """Lines of the operating system's audit log were changed after they had been read. Value: files. Action: Find out
    who changed them; the lines that were read are stored."""

    AUDIT_LOG_LOST = "audit-log-lost"
    """Files of the operating system's audit log were removed; some of their lines may not have been read. Value:
    files. Action: Find out who removed them, or why they were rotated so fast."""

    AUDIT_LOG_REMOVED = "audit-log-removed"
    """The oldest files of the operating system's audit log were removed, although the rotation keeps more. Value:
    files. Action: Find out who removed them; their lines are stored."""

    AUDIT_LOG_REPEATED = "audit-log-repeated"
    """A power failure or a failed disk destroyed stored lines of the operating system's audit log. They are read
    again; the data center detects those that it has. Action: Nothing; check the disk if it repeats."""

    AUDIT_LOG_UNREADABLE = "audit-log-unreadable"
    """The operating system's audit log cannot be read; the box tries again every minute. Action: Check whether
    auditd runs, and rap-audit.service."""

    AUDIT_TAIL_LOST = "audit-tail-lost"
    """Audit records are missing at the end of the spool, although the data center has countersigned the chain up to
    them. Value: records. Action: Find out who changed the box's disk; the data center has these records."""

    AUDIT_CHAIN_LOST = "audit-chain-lost"
    """The chain of audit records begins anew with another spool. Value: the last countersigned record of the
    previous chain. Action: Nothing if the disk was replaced or erased; otherwise find out who did it."""

    AUDIT_CHAIN_REPLACED = "audit-chain-replaced"
    """The last audit record in the spool is not the one that the data center has countersigned. Value: its number.
    Action: Find out who changed the box's disk."""

    AUDIT_HEAD_REFUSED = "audit-head-refused"
    """The data center does not countersign the head of the chain of audit records: it has others, or has lost some.
    Value: the record's number. Action: Run `rap dc audit verify` there."""

    AUDIT_HEAD_UNUSABLE = "audit-head-unusable"
    """A countersigned head of the chain of audit records was changed, or is not signed by a key of [audit]. Action:
    Compare `keys` in box.toml with the data center's key; otherwise find out who changed the box's disk."""

    WATCHDOG_NOT_STARTED = "watchdog-not-started"
    """The hardware watchdog could not be started; the box runs without it. Action: Check the watchdog's
    driver, and `watchdog` in box.toml."""

    WATCHDOG_RESET = "watchdog-reset"
    """The last restart was caused by the watchdog. Action: Read the system's journal from before the
    restart."""

    WATCHDOG_FAILED = "watchdog-failed"
    """The hardware watchdog stopped working; the box continues without it. Action: Check the watchdog's
    driver."""

    CERTIFICATE_RENEWED = "certificate-renewed"
    """A new certificate, issued by the data center or in changed files, is used for new connections. Value: days
    until it expires, if the data center issued it. Action: Nothing."""

    CERTIFICATE_ISSUED = "certificate-issued"
    """The data center has issued a certificate for a new key of the box, which tries it now. Value: days until it
    expires. Action: Nothing."""

    CERTIFICATE_AWAITS_APPROVAL = "certificate-awaits-approval"
    """The box's request for a certificate waits until a person at the data center approves it, because the
    certificate has expired, or the box is unknown there or was registered with another key. Action: Approve it:
    `rap dc enrolment list`."""

    CERTIFICATE_REQUEST_REFUSED = "certificate-request-refused"
    """The data center refuses the box's request for a certificate. Value: the HTTP status. Action: Read the data
    center's log."""

    CERTIFICATE_NOT_RENEWED = "certificate-not-renewed"
    """A new certificate is unusable or refused; the one used before stays in use. Action: Run `rap box run
    --check` and replace the files; a certificate from the data center is requested again by the box."""

    CERTIFICATE_EXPIRES_SOON = "certificate-expires-soon"
    """The box's certificate expires soon. Value: days left. Action: Renew the certificate."""

    CERTIFICATE_REFUSED = "certificate-refused"
    """The box's certificate would be refused by the data center or by instruments. Value: days until it
    expires; negative once it has expired. Action: Run `rap box run --check` and replace the files."""

    REVOCATIONS_CHANGED = "revocations-changed"
    """A new certificate revocation list is in force. Action: Nothing."""

    REVOCATIONS_UNUSABLE = "revocations-unusable"
    """The revocation list cannot be read or verified; the list used before stays in force. Action: Replace
    the list."""

    REVOCATIONS_EXPIRED = "revocations-expired"
    """The revocation list has expired; it stays in force. Action: Publish a new list."""

    SPOOL_FILES_LEFT_ALONE = "spool-files-left-alone"
    """The spool's folder contains files of another spool or of a newer version; they were not changed. Value:
    files. Action: Move the files away, or install the newer version."""

    SPOOL_FULL = "spool-full"
    """Reports were refused: the spool contains nothing that may be dropped. Action: Restore the uplink;
    reports are accepted again once records are delivered."""

    SPOOL_IO = "spool-io"
    """Reports were refused: the disk failed. Action: Check the disk; replace it if it happens again."""

    SPOOL_WRITABLE = "spool-writable"
    """The disk accepts records again. Value: seconds during which it did not. Action: Check the disk."""

    UPLINK_LOST = "uplink-lost"
    """The connection to the data center was lost or could not be made. Action: Nothing if it is restored;
    otherwise check the uplink."""

    UPLINK_RESTORED = "uplink-restored"
    """The data center acknowledges again. Value: seconds since `uplink-lost`. Action: Nothing."""

    BATCHES_SELF_CONTAINED = "batches-self-contained"
    """An HTTP front end spreads requests over connections; for some hours each batch is compressed separately.
    Action: Nothing; batches are larger meanwhile."""

    PROXY_REFUSED_AUTH = "proxy-refused-auth"
    """The proxy requires a user and password, or refused those in box.toml. Action: Correct `user` and
    `password` of the proxy."""

    PROXY_REFUSED = "proxy-refused"
    """The proxy refuses to connect to the data center. Action: Have the proxy allow the data center's host
    and port."""

    PROXY_GARBAGE = "proxy-garbage"
    """The proxy's reply does not follow its protocol. Action: Check the kind, host and port of the proxy."""

    PROXY_TIMEOUT = "proxy-timeout"
    """The proxy does not reply in time. Action: Check the proxy's host and port, and whether it runs."""

    PROXY_LOST = "proxy-lost"
    """The proxy closed the connection before it replied. Action: Check the proxy's log."""

    FAR_END_REFUSED = "far-end-refused"
    """The data center refused a batch. Value: the HTTP status. Action: Look up the status in the data
    center's log."""

    FAR_END_NONSENSE = "far-end-nonsense"
    """The reply to a batch is not a valid reply. Value: the HTTP status; 0 without one. Action: Check what is
    between the box and the data center."""

    FAR_END_NOT_TRUSTED = "far-end-not-trusted"
    """The data center's certificate could not be verified. Value: the code of
    X509_verify_cert_error_string(3). Action: See the `far-end-` event that follows it."""

    FAR_END_TRUSTED = "far-end-trusted"
    """The data center's certificate is trusted again. Action: Nothing."""

    FAR_END_INSPECTED = "far-end-inspected"
    """The data center's certificate was issued by another CA, such as that of a proxy which inspects TLS. Value: the
    code of X509_verify_cert_error_string(3). Action: Exempt the data center's host from inspection."""

    FAR_END_SELF_SIGNED = "far-end-self-signed"
    """The data center's certificate is self-signed. Value: the code of X509_verify_cert_error_string(3).
    Action: Check the host and port of the data center, and the CA that the box trusts."""

    FAR_END_WRONG_NAME = "far-end-wrong-name"
    """The data center's certificate is for another name. Value: the code of X509_verify_cert_error_string(3).
    Action: Check the host of the data center in box.toml."""

    FAR_END_EXPIRED = "far-end-expired"
    """The data center's certificate has expired. Value: the code of X509_verify_cert_error_string(3). Action:
    Renew it; check the box's clock."""

    FAR_END_NOT_YET_VALID = "far-end-not-yet-valid"
    """The data center's certificate is not valid yet. Value: the code of X509_verify_cert_error_string(3).
    Action: Check the box's clock."""

    FAR_END_PLAIN_HTTP = "far-end-plain-http"
    """The data center's port replies without TLS, as a captive portal does. Value: 0. Action: Check the port;
    sign in at the portal or bypass it."""

    FAR_END_NOT_USABLE = "far-end-not-usable"
    """The data center's certificate was rejected for another reason. Value: the code of
    X509_verify_cert_error_string(3). Action: Look up the code."""

    CLOCK_BEHIND = "clock-behind"
    """The box's clock was behind the last confirmed time when the program started. Value: seconds. Action:
    Check the battery of the real-time clock."""

    CLOCK_WRONG = "clock-wrong"
    """The box's clock differs from the data center's. Value: seconds; positive if the box's clock is fast.
    Action: Nothing if `clock-set` follows."""

    CLOCK_SET = "clock-set"
    """The box's clock was set to the data center's time. Action: Nothing."""

    CLOCK_NOT_SET = "clock-not-set"
    """The box's clock could not be set. Action: Check the service that sets the clock."""

    TIME_CONFIRMED = "time-confirmed"
    """The data center confirmed the time. Value: seconds since 1970. Action: Nothing."""

    TIME_REFUSED = "time-refused"
    """The data center reported a time before one that was confirmed earlier; it was ignored. Value: seconds
    since 1970. Action: Check the data center's clock."""

    INSTRUMENT_NOT_ENROLLED = "instrument-not-enrolled"
    """A client's certificate is not that of an instrument enrolled at this port. Action: Enrol the instrument
    at the port, or find out what is connected there."""

    INSTRUMENT_WITHOUT_PURPOSE = "instrument-without-purpose"
    """A client's certificate is not for TLS clients. Action: Issue a certificate with extended key usage
    clientAuth."""

    TPM_NOT_USABLE = "tpm-not-usable"
    """The site requires that the key of the box's certificate is made in its TPM, which cannot be used; the box keeps
    the certificate that it has. Action: Enable the TPM in the machine's firmware, or permit key files in the site
    file."""

    INSTRUMENT_CERTIFICATE_ISSUED = "instrument-certificate-issued"
    """The data center has issued a certificate to an instrument at this port. Action: Nothing."""

    INSTRUMENT_CERTIFICATE_AWAITS_APPROVAL = "instrument-certificate-awaits-approval"
    """The request of an instrument for a certificate waits for a person at the data center. Action: Approve it there,
    if the laboratory has confirmed that the instrument was switched on."""

    INSTRUMENT_CERTIFICATE_REFUSED = "instrument-certificate-refused"
    """The data center refuses the request of an instrument for a certificate. Value: HTTP status. Action: Read the
    reason in the log of the data center."""

    INSTRUMENT_DENIED = "instrument-denied"
    """The data center has put an instrument on the deny-list; its connections are refused. Action: Find out at the
    data center why."""

    INSTRUMENT_ALLOWED = "instrument-allowed"
    """The data center has taken an instrument off the deny-list. Action: Nothing."""

    INSTRUMENT_REVOKED = "instrument-revoked"
    """A client's certificate is revoked. Action: Identify the device that is connected to the port."""

    INSTRUMENT_CA_REVOKED = "instrument-ca-revoked"
    """A CA that issued a client's certificate is revoked. Action: Issue a new certificate."""

    INSTRUMENT_CHAIN_UNKNOWN = "instrument-chain-unknown"
    """The CAs between a client's certificate and the trusted root are unknown. Action: Install the
    intermediate CAs at the instrument."""

    CONNECTIONS_OVER_LIMIT = "connections-over-limit"
    """An instrument port has its maximum number of connections; further ones are refused. Value:
    connections. Action: Find out which instrument keeps so many connections."""

    REPORTS_REFUSED = "reports-refused"
    """A request contained reports that are not valid. Action: Check the instrument's software version."""

    PROFILE_IGNORED = "profile-ignored"
    """A delivered profile is not used, or an instrument's model has no profile. Action: Read the reason in the
    system's journal."""

    CONTROL_ANSWERED = "control-answered"
    """The box acknowledged a message with a control's result that has no usable time of the instrument. After a
    restart, an equal message counts as a new one; without this record, it counts as a repetition. Action: Nothing."""

    LABORATORY_HOST_UNREACHABLE = "laboratory-host-unreachable"
    """The laboratory's host does not accept the connection of an instrument that the box relays; the instrument's
    connection was closed. Action: Check whether the host runs, and `host` in the site file."""

    PASSED_UNREAD = "passed-unread"
    """Bytes between an instrument and the laboratory's host were relayed but not read, because the box was behind or
    its engine failed; their content is missing. Value: number of gaps. Action: Check the disk; report a failed
    engine."""

    ENGINE_FAILED = "engine-failed"
    """An internal error ended the connection of an instrument that speaks its own standard.

    Action: Report it with the location from the system's journal.
    """

    WORDS_REFUSED = "words-refused"
    """A request contained reports with a word that is not in the instrument's profile. Action: Check the
    instrument's software version, and `model` in the site file."""

    PATIENT_RESULTS_DROPPED = "patient-results-dropped"
    """An instrument sent results of patients, or of possible patients; they were discarded. Value: number
    of them. Action: Nothing."""

    QUERY_IGNORED = "query-ignored"
    """An instrument queried orders, which only the laboratory's host can answer. Value: number of them.
    Action: If it waits for answers, connect it to its host, and the box as a listener."""

    TEST_UNKNOWN = "test-unknown"
    """A quality-control result or inventory has a test code without an assay. Value: number of them. Action:
    Add the code to `tests` of the port in the site file, or to `ignore`."""

    CONTROL_UNKNOWN = "control-unknown"
    """The control of a quality-control result, or its assay, is not configured. Value:
    number of them. Action: Add it to `controls` of the port in the site file."""

    ALARM_UNKNOWN = "alarm-unknown"
    """An alarm of an instrument is not configured. Value: number of them. Action: Add it to `alarms` of the port in
    the site file."""

    VALUE_UNREADABLE = "value-unreadable"
    """A number, time or code could not be read. Value: number of them. Action: Check the
    dialect options of the port."""

    RESULT_NOT_FINAL = "result-not-final"
    """A quality-control result was preliminary, pending, sent before or not obtained. Value: number of them.
    Action: Nothing."""

    FRAME_REFUSED = "frame-refused"
    """A frame had a wrong checksum, number or form; the instrument was asked to repeat it. Value: number of
    them. Action: If it repeats, check the cable and the line settings."""

    FRAME_REPEATED = "frame-repeated"
    """An instrument repeated a frame that was accepted. Value: number of them. Action: If it repeats, check
    the line for lost bytes."""

    MESSAGE_UNFINISHED = "message-unfinished"
    """A message ended before its last part. Value: number of them. Action: If it repeats, check the cable and
    the dialect options."""

    MESSAGE_REFUSED = "message-refused"
    """A message does not conform to the port's standard, or exceeds a limit. Value: number of them. Action: Check
    the profile and the dialect options of the port."""

    MESSAGE_IGNORED = "message-ignored"
    """A valid message of a kind that the box does not use. Value: number of them. Action: Nothing."""

    MESSAGE_REPEATED = "message-repeated"
    """An instrument sent a message again whose reports were stored before. Value: number of them. Action:
    Nothing."""

    NOT_STORED = "not-stored"
    """A message of an instrument could not be stored; it was asked to repeat it. Value: number of them.
    Action: See the other records of the spool."""

    LITTER = "litter"
    """Bytes between messages were skipped. Value: number of uninterrupted sequences of such bytes. Action: If it
    repeats, check the cable and the dialect options."""

    REPORTS_TOO_MANY = "reports-too-many"
    """An instrument exceeded its report rate; it was asked to wait. Action: Check why the instrument sends so
    much."""

    REPORTS_HELD_BACK = "reports-held-back"
    """An instrument with many undelivered reports was asked to wait. Action: Nothing; restore the uplink if
    it is lost."""

    ALERTS_OVER_SHARE = "alerts-over-share"
    """An instrument's undelivered alerts and results fill its share of the spool; more are refused. Action:
    Restore the uplink, or check why the instrument sends so many."""

    RUN_TOO_LOW = "run-too-low"
    """An instrument sent reports under a run number below one used before. Value: the run. Action: Nothing;
    the instrument continues with a new run."""

    RUN_REPEATED = "run-repeated"
    """An instrument used a report number again for another report. Value: the run. Action: Nothing; the
    instrument continues with a new run."""

    COMMAND_STARTED = "command-started"
    """The execution of a command of the box began, or a command was sent to the instrument of the port, which speaks
    its own standard. Value: the command's id. Action: Nothing."""

    COMMAND_DONE = "command-done"
    """A command of the box was executed. Value: the command's id. Action: Nothing."""

    COMMAND_REFUSED = "command-refused"
    """A command of the box was refused. Value: the command's id. Action: See the command's result at the data
    center."""

    COMMAND_FAILED = "command-failed"
    """A command of the box failed. Value: the command's id. Action: Read the system's journal."""

    COMMAND_WITHDRAWN = "command-withdrawn"
    """A command was withdrawn, or expired, before it was begun; it is not executed. Value: the command's id. Action:
    Nothing."""

    COMMAND_UNKNOWN = "command-unknown"
    """The command is unknown to the box. Value: the command's id. Action: Check the box's software
    version."""

    COMMAND_INTERRUPTED = "command-interrupted"
    """A restart interrupted a command of the box; it counts as failed. Value: the command's id. Action: Send
    it again if it is still needed."""

    COMMAND_FOR_UNKNOWN_INSTRUMENT = "command-for-unknown-instrument"
    """A command names an instrument that is not enrolled at this box. Value: the command's id. Action: Check
    the instrument's serial number."""

    BACKLOG_ALERT = "backlog-alert"
    """The number of waiting alerts, as requested by `send-inventory`. Value: records. Action: Nothing."""

    BACKLOG_AUDIT = "backlog-audit"
    """The number of waiting audit records, as requested by `send-inventory`. Value: records. Action: Nothing."""

    BACKLOG_ROUTINE = "backlog-routine"
    """The number of waiting routine reports, as requested by `send-inventory`. Value: records. Action: Nothing."""

    FIREWALL_IN_FORCE = "firewall-in-force"
    """The firewall's policy is in force. Action: Nothing."""

    FIREWALL_NOT_IN_FORCE = "firewall-not-in-force"
    """The firewall's policy is not in force, or nothing confirms that it is; instruments are not served.
    Action: Run `rap box status`; it shows the reason."""

    FIREWALL_CHANGED = "firewall-changed"
    """Another program changed the firewall's table. Value: the process id; 0 if unknown. Action: Find out
    which program it was."""

    FIREWALL_REPAIRED = "firewall-repaired"
    """Changes in the firewall's table were undone. Value: differences. Action: See `firewall-changed`."""

    FIREWALL_SETTINGS_REPAIRED = "firewall-settings-repaired"
    """Kernel settings of the firewall that another program had changed were restored. Value: settings.
    Action: Find out which program it was."""

    PORT_NOT_OPENED = "port-not-opened"
    """The network interface of an instrument port could not be opened. Action: Check the interface."""

    PORT_NOT_CLOSED = "port-not-closed"
    """The network interface of an instrument port could not be closed. Action: Unplug the port; check the
    interface."""

    REFUSED_UNUSED = "refused-unused"
    """The firewall refused packets that arrived at an interface of no zone. Value: packets since the last
    such record. Action: Unplug what is connected there."""

    REFUSED_SPOOFED = "refused-spoofed"
    """The firewall refused packets that had a source address that does not belong to the interface. Value:
    packets since the last such record. Action: Check the addresses of what is connected there."""

    REFUSED_LINK = "refused-link"
    """The firewall refused link-local packets that the box does not use. Value: packets since the last such
    record. Action: Nothing."""

    REFUSED_INVALID = "refused-invalid"
    """The firewall refused packets that belonged to no connection. Value: packets since the last such record.
    Action: Nothing, unless there are many."""

    REFUSED_OUTSIDE = "refused-outside"
    """The firewall refused unsolicited packets from the uplink. Value: packets since the last such record.
    Action: Nothing; a firewall of the site can block them before they reach the box."""

    REFUSED_TUNNEL = "refused-tunnel"
    """The firewall refused packets that came from staff without an open session. Value: packets since the
    last such record. Action: Open a session first."""

    REFUSED_INSTRUMENT = "refused-instrument"
    """The firewall refused packets that were sent by an instrument to a service that its port does not offer.
    Value: packets since the last such record. Action: Check the instrument's configuration."""

    REFUSED_CROSSING = "refused-crossing"
    """The firewall refused packets that were sent by an instrument to another instrument or to staff. Value:
    packets since the last such record. Action: Find out what the instrument tries to reach."""

    REFUSED_LEAVING = "refused-leaving"
    """The firewall refused packets that were sent by an instrument to the uplink. Value: packets since the
    last such record. Action: Find out what the instrument tries to reach."""

    REFUSED_EGRESS = "refused-egress"
    """The firewall refused packets that were sent by the box to an address that is not authorized. Value:
    packets since the last such record. Action: Check the addresses in firewall.toml."""

    REFUSED_CROWDED = "refused-crowded"
    """The firewall refused packets that would have begun more connections than an instrument port may have.
    Value: packets since the last such record. Action: Find out which device opens so many connections."""

    AUDIT_RATE_NEAR_LIMIT = "audit-rate-near-limit"
    """At least 80 % of a limit is used: the rate of one audit event. Value: percent of the limit. Action: See
    the event itself."""

    AUDIT_RATE_BELOW_LIMIT = "audit-rate-below-limit"
    """Less than 70 % of the limit is used again: the rate of one audit event. Value: percent of the limit.
    Action: Nothing."""

    SPOOL_NEAR_LIMIT = "spool-near-limit"
    """At least 75 % of a limit is used: the spool's size. Value: percent of the limit. Action: Restore the
    uplink."""

    SPOOL_BELOW_LIMIT = "spool-below-limit"
    """Less than 50 % of the limit is used again: the spool's size. Value: percent of the limit. Action:
    Nothing."""

    FILE_SYSTEM_NEAR_LIMIT = "file-system-near-limit"
    """At least 75 % of a limit is used: the space of the spool's file system that other programs use. Value:
    percent of the limit. Action: Remove files from the file system."""

    FILE_SYSTEM_BELOW_LIMIT = "file-system-below-limit"
    """Less than 70 % of the limit is used again: the space of the spool's file system that other programs
    use. Value: percent of the limit. Action: Nothing."""

    DESCRIPTORS_NEAR_LIMIT = "descriptors-near-limit"
    """At least 80 % of a limit is used: the process's open file descriptors. Value: percent of the limit.
    Action: Report it."""

    DESCRIPTORS_BELOW_LIMIT = "descriptors-below-limit"
    """Less than 70 % of the limit is used again: the process's open file descriptors. Value: percent of the
    limit. Action: Nothing."""

    MEMORY_NEAR_LIMIT = "memory-near-limit"
    """At least 80 % of a limit is used: the process's memory. Value: percent of the limit. Action: Report
    it."""

    MEMORY_BELOW_LIMIT = "memory-below-limit"
    """Less than 70 % of the limit is used again: the process's memory. Value: percent of the limit. Action:
    Nothing."""

    TLS_SESSIONS_NEAR_LIMIT = "tls-sessions-near-limit"
    """At least 80 % of a limit is used: the TLS sessions that are kept. Value: percent of the limit. Action:
    Nothing; older sessions are dropped."""

    TLS_SESSIONS_BELOW_LIMIT = "tls-sessions-below-limit"
    """Less than 70 % of the limit is used again: the TLS sessions that are kept. Value: percent of the limit.
    Action: Nothing."""

    COMMANDS_NEAR_LIMIT = "commands-near-limit"
    """At least 80 % of a limit is used: the commands that wait for one instrument. Value: percent of the
    limit. Action: Check whether the instrument collects its commands."""

    COMMANDS_BELOW_LIMIT = "commands-below-limit"
    """Less than 70 % of the limit is used again: the commands that wait for one instrument. Value: percent of
    the limit. Action: Nothing."""

    GIVEN_UP_NEAR_LIMIT = "given-up-near-limit"
    """At least 80 % of a limit is used: the records that the data center rejects. Value: percent of the
    limit. Action: Look for the reason in the data center's log."""

    GIVEN_UP_BELOW_LIMIT = "given-up-below-limit"
    """Less than 70 % of the limit is used again: the records that the data center rejects. Value: percent of
    the limit. Action: Nothing."""

    REPORT_RATE_NEAR_LIMIT = "report-rate-near-limit"
    """At least 80 % of a limit is used: an instrument's report rate at a port. Value: percent of the limit.
    Action: Check why the instrument sends so much."""

    REPORT_RATE_BELOW_LIMIT = "report-rate-below-limit"
    """Less than 70 % of the limit is used again: an instrument's report rate at a port. Value: percent of the
    limit. Action: Nothing."""

    CONNECTIONS_NEAR_LIMIT = "connections-near-limit"
    """At least 80 % of a limit is used: the connections of a port. Value: percent of the limit. Action: Find
    out which instrument keeps so many connections."""

    CONNECTIONS_BELOW_LIMIT = "connections-below-limit"
    """Less than 70 % of the limit is used again: the connections of a port. Value: percent of the limit.
    Action: Nothing."""

    CONNTRACK_NEAR_LIMIT = "conntrack-near-limit"
    """At least 80 % of a limit is used: the connections that the kernel tracks. Value: percent of the limit.
    Action: Find out which device opens so many connections."""

    CONNTRACK_BELOW_LIMIT = "conntrack-below-limit"
    """Less than 70 % of the limit is used again: the connections that the kernel tracks. Value: percent of
    the limit. Action: Nothing."""

    CRL_SIZE_NEAR_LIMIT = "crl-size-near-limit"
    """At least 80 % of a limit is used: the size of the revocation list. Value: percent of the limit. Action:
    Publish a smaller list."""

    CRL_SIZE_BELOW_LIMIT = "crl-size-below-limit"
    """Less than 70 % of the limit is used again: the size of the revocation list. Value: percent of the
    limit. Action: Nothing."""

    CRL_AGE_NEAR_LIMIT = "crl-age-near-limit"
    """At least 80 % of a limit is used: the validity of the revocation list. Value: percent of the limit.
    Action: Publish a new list."""

    CRL_AGE_BELOW_LIMIT = "crl-age-below-limit"
    """Less than 70 % of the limit is used again: the validity of the revocation list. Value: percent of the
    limit. Action: Nothing."""
