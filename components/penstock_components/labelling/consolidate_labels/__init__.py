"""One label an object from several workers' answers, with how sure it is and how good each worker is."""
