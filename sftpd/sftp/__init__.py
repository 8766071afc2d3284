"""The SFTP protocol in a child: the verbs behind one gate, and the view of a party's tree."""
