"""Reading applications: JSON, tables, Arrow and Parquet become the model's input rows."""
