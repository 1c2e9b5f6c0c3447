-- Purpose: can this database be written? A SELECT also answers on a read-only one. Parameters: none. Always one row.
UPDATE agentpool.write_probe SET at = clock_timestamp()
