-- Purpose: the database's epoch, part of every stream cursor. Parameters: none. Always one row.
SELECT epoch FROM agentpool.database_epoch
