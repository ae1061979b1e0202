"""The episode store on disk: records, ledgers, retention, verification, export."""
