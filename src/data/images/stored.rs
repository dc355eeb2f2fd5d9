//! Images as they are stored.

/// Labeled images of one size, as stored: one byte a value, not scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// `len() * features()` values, image after image. Within an image the channels come one after the other, each row
    /// by row from the top left.
    pub pixels: Vec<u8>,
    /// One class number per image.
    pub labels: Vec<u8>,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Values per position: 1 for gray, 3 for red, green, blue.
    pub channels: usize,
    /// The value of a full pixel: 255, or 16 for digits.
    pub scale: f32,
}

impl Images {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of values in one image: height x width x channels.
    pub fn features(&self) -> usize {
        self.height * self.width * self.channels
    }
}
