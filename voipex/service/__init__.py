"""What every service has: settings, logs, a management port."""
