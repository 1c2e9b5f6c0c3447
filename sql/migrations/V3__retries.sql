-- A task that was put in again names the one that had failed or was cancelled. Each of the two ends once.
ALTER TABLE agentpool.tasks ADD COLUMN retry_of uuid;
