-- Sums of usage are asked for a stretch of time.
CREATE INDEX task_usage_by_time ON agentpool.task_usage (created_at);
