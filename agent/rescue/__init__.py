"""Backup and restore of a gateway, the archive for a bug report, and the way back from an upgrade.

``belongings`` names the files of a gateway; ``archive`` packs them with a manifest. ``backup``
makes an archive while the agent runs, and ``restore`` puts one in place. ``support`` makes the
archive for a bug report, from which ``redaction`` removes secrets. ``rollback`` returns to the
environment and the databases from before an upgrade.
"""
