"""What a version folder holds, told without serving it."""
